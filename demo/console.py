"""Progress display of the demo: one bar per stage on a terminal, plain lines for a parent process that forwards
them."""

import threading
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

HEARTBEAT_S = 5.0
LINE_EVERY_S = 2.0


class Display(Protocol):
    """Progress display. Stages are started in the order in which they run; the latest started one is running."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self, stage: str) -> None: ...

    def advance(self, stage: str, done: int, total: int) -> None: ...

    def finish(self, stage: str, remark: str = "") -> None: ...

    def say(self, text: str) -> None: ...


def display(stages: tuple[str, ...]) -> Display:
    """Returns bars if standard output is a terminal, else lines."""
    console = Console(highlight=False)
    return Bars(stages, console) if console.is_terminal else Lines(stages)


class Bars:
    """One row per stage with its bar and elapsed time, and a last row for the whole."""

    def __init__(self, stages: tuple[str, ...], console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[mark]} {task.description:12}"),
            BarColumn(bar_width=40),
            TextColumn("{task.fields[counted]:>9}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[remark]}"),
            console=console,
        )
        self._rows: dict[str, TaskID] = {stage: self._row(stage) for stage in stages}
        self._whole = self._progress.add_task("all", total=len(stages), mark=" ", counted="", remark="")

    def _row(self, stage: str) -> TaskID:
        return self._progress.add_task(f"[dim]{stage}", start=False, total=None, mark=" ", counted="", remark="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, stage: str) -> None:
        self._progress.start_task(self._rows[stage])
        self._progress.update(self._rows[stage], description=f"[bold]{stage}", mark="[cyan]>")

    def advance(self, stage: str, done: int, total: int) -> None:
        self._progress.update(self._rows[stage], completed=done, total=total, counted=f"{done}/{total}")

    def finish(self, stage: str, remark: str = "") -> None:
        row = self._rows[stage]
        total = self._progress.tasks[row].total or 1
        self._progress.update(row, completed=total, total=total, description=stage, mark="[green]✓", remark=remark)
        self._progress.stop_task(row)
        self._progress.advance(self._whole)

    def say(self, text: str) -> None:
        self._progress.console.print(text)


class Lines:
    """Plain lines; one at least every few seconds, so that silence indicates a problem."""

    def __init__(self, stages: tuple[str, ...]) -> None:
        self._stages, self._finished = stages, 0
        self._began = self._stage_began = self._last = time.monotonic()
        self._stage = ""
        self._lock, self._over = threading.Lock(), threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def start(self, stage: str) -> None:
        self._stage, self._stage_began = stage, time.monotonic()
        self._print(f"{stage}")

    def advance(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._last >= LINE_EVERY_S:
            self._print(f"{stage} {done}/{total}, {time.monotonic() - self._stage_began:.0f} s")

    def finish(self, stage: str, remark: str = "") -> None:
        self._finished += 1
        took = f"{time.monotonic() - self._stage_began:.0f} s"
        self._print(f"{stage} done, {took}{f', {remark}' if remark else ''}")

    def say(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        with self._lock:
            self._last = time.monotonic()
            elapsed = f"{self._last - self._began:4.0f} s"
            print(f"[{elapsed}, {self._finished}/{len(self._stages)}] {text}", flush=True)

    def _beat(self) -> None:
        while not self._over.wait(1.0):
            if self._stage and time.monotonic() - self._last >= HEARTBEAT_S:
                self._print(f"{self._stage} goes on, {time.monotonic() - self._stage_began:.0f} s")
