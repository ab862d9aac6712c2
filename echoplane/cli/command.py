"""What a subcommand is, and what all of them share: their help, JSON or lines, exit codes."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echoplane.errors import ConfigError

SOME_INPUTS_REFUSED = 3


@dataclass(frozen=True)
class Command:
    """One subcommand: what it does in a line, a call to copy, what runs it on the arguments after its name, and whether
    a call that was stopped goes on when it is repeated."""

    title: str
    example: str
    run: Callable[[argparse.ArgumentParser, list[str]], int]
    goes_on: bool = True

    def parser(self, name: str) -> argparse.ArgumentParser:
        """A parser with help and `--json`; `run` adds the rest."""
        parser = argparse.ArgumentParser(
            f"echoplane {name}",
            description=f"{self.title[0].upper()}{self.title[1:]}.",
            epilog=f"example:\n  {self.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument(
            "--json", action="store_true", help="print the result as JSON; progress goes to standard error"
        )
        return parser


@contextlib.contextmanager
def progress_apart(as_json: bool) -> Iterator[None]:
    """With JSON on standard output, progress goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def report(name: str, counts: dict[str, Any], as_json: bool, *, set_aside: int = 0, **more: Any) -> int:
    """Print what a stage made; the exit status, which says whether inputs were set aside."""
    from echoplane.stages.stage import flat

    if as_json:
        print(json.dumps({"stage": name, "counts": counts} | more))
    else:
        plain = (f"{key} {value}" for key, value in flat(counts) if isinstance(value, int | float | str))
        print(f"{name}: {', '.join(plain)}")
        print(*more.values(), sep="\n")
    return SOME_INPUTS_REFUSED if set_aside else 0


def empty(folder: Path) -> Path:
    """The folder, which may not hold anything yet."""
    from echoplane.stages.stage import ensure_folder

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("DST is there and not empty; give a new folder, or remove what is in it.")
    return ensure_folder(folder, "DST")
