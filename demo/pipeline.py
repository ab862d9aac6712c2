"""Pipeline as a child process: its lines become the demo's progress, its whole output the log."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from demo.console import Display
from echoplane.errors import StageError
from echoplane.parent import start, stop

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
STARTED = re.compile(r"Executing task '(?!ended|exit-handler)([\w-]+)'")
ENDED = re.compile(r"Task '(?!ended|exit-handler)([\w-]+)' finished with status (\w+)")
COUNTED = re.compile(r"^(\w+) (\d+)/(\d+)\b")
SAID_WHY = re.compile(r"^echoplane [\w-]+: (.+)")


@dataclass
class Followed:
    """Progress of a run, read from its output lines."""

    display: Display
    stage: str = ""
    began_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each finished step."""
    why: str = ""
    """Last error of our own that a step printed."""

    def read(self, line: str) -> None:
        line = COLOUR.sub("", line).strip()
        if found := STARTED.search(line):
            self.stage, self.began_s = found[1], time.monotonic()
            self.display.start(self.stage)
        elif found := ENDED.search(line):
            self.seconds[found[1]] = round(time.monotonic() - self.began_s, 1)
            if found[2] == "SUCCESS":
                self.display.finish(found[1])
        elif found := COUNTED.match(line):
            if found[1] == self.stage:
                self.display.advance(self.stage, int(found[2]), int(found[3]))
        elif found := SAID_WHY.match(line):
            self.why = found[1]


class PipelineRun:
    """Running `python -m pipelines run`; it ends with this process, however this process ends."""

    def __init__(self, name: str, parameters: dict[str, str], log: Path, environment: dict[str, str]) -> None:
        options = [part for key, value in parameters.items() for part in (f"--{key.replace('_', '-')}", value)]
        self._log = log
        # Ctrl-C reaches the demo alone, which then ends the run without tracebacks.
        self._process = start(
            [sys.executable, "-u", "-m", "pipelines", "run", name, *options],
            os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def follow(self, display: Display) -> Iterator[Followed]:
        """Yields each change as it comes. Raises StageError if a step fails."""
        followed = Followed(display)
        with self._log.open("a") as log:
            for line in self._process.stdout or ():
                log.write(line)
                log.flush()
                followed.read(line)
                yield followed
        if self._process.wait():
            why = followed.why or "see the end of the log."
            raise StageError(f"step {followed.stage or 'start'} failed: {why} The whole log is {self._log}.")

    def stop(self) -> None:
        """Ends the run and its steps, if still running."""
        stop(self._process, grace_s=0)
