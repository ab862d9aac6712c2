"""Progress of long work, for a terminal or for a parent process that relays lines."""

import sys
import time
from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the amount done and the total."""


def printed(stage: str, every_s: float = 1.0) -> Progress:
    """Returns a function that prints "stage done/total elapsed" on standard output, at most once per `every_s`.

    On a terminal the line is redrawn in place; elsewhere every line ends in a newline.
    """
    start, last = time.monotonic(), [-every_s]
    in_place = sys.stdout.isatty()

    def show(done: int, total: int) -> None:
        now = time.monotonic() - start
        if done < total and now - last[0] < every_s:
            return
        last[0] = now
        end = "\n" if done >= total or not in_place else ""
        sys.stdout.write(f"{chr(13) if in_place else ''}{stage} {done}/{total} {now:.0f} s{end}")
        sys.stdout.flush()

    return show
