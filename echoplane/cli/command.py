"""The class of a subcommand, and what all subcommands share: help, output as JSON or lines, exit codes."""

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
    """One subcommand: its title in one line, an example call, the function that runs it on the arguments after its
    name, and a flag that says if repeating an interrupted call resumes it."""

    title: str
    example: str
    run: Callable[[argparse.ArgumentParser, list[str]], int]
    goes_on: bool = True

    def parser(self, name: str) -> argparse.ArgumentParser:
        """Returns a parser with help and `--json`; `run` adds the other options."""
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
    """Sends progress to standard error if standard output carries JSON."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def report(name: str, counts: dict[str, Any], as_json: bool, *, set_aside: int = 0, **more: Any) -> int:
    """Prints the result of a stage and returns the exit status, which says if inputs were set aside."""
    from echoplane.stages.stage import flat

    if as_json:
        print(json.dumps({"stage": name, "counts": counts} | more))
    else:
        plain = (f"{key} {value}" for key, value in flat(counts) if isinstance(value, int | float | str))
        print(f"{name}: {', '.join(plain)}")
        print(*more.values(), sep="\n")
    return SOME_INPUTS_REFUSED if set_aside else 0


def empty(folder: Path) -> Path:
    """Returns `folder`, made if absent. Raises ConfigError if it is not empty."""
    from echoplane.stages.stage import ensure_folder

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("DST is there and not empty; give a new folder, or remove what is in it.")
    return ensure_folder(folder, "DST")
