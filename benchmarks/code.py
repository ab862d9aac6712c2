"""Counts what a reader of the code meets: `python -m benchmarks.code [REVISION ...]`, the working tree by default.

Prints one column per revision: files, lines, functions and their lengths, docstrings that are fragments, and places
outside `echoplane/tasks` that name a task. Only Python of the product is counted; tests and benchmarks are not.
"""

import argparse
import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PRODUCT = ("echoplane", "serving", "components", "pipelines", "demo")
FRAGMENT = re.compile(r"(Of|What|Whether|Where|As|By|And|That|Who|How|For what)\b")
"""First words of a docstring that is no sentence."""
TASK_NAME = re.compile(r"echo-view-(video|image)|cmr-segmentation|\b(view_video|view_image|cmr_segmentation)\b")
WORKING_TREE = "working tree"


@dataclass(frozen=True)
class Source:
    """One Python file of the product."""

    path: str
    text: str
    tree: ast.Module


def main() -> int:
    """Prints the table of the revisions that the command line names."""
    parser = argparse.ArgumentParser("python -m benchmarks.code", description=__doc__)
    parser.add_argument("revisions", nargs="*", default=[WORKING_TREE], help="git revisions; left out: the files here")
    revisions = parser.parse_args().revisions
    columns = [figures(list(sources(revision))) for revision in revisions]
    print(f"| figure | {' | '.join(revisions)} |\n|---|{'---|' * len(revisions)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")
    return 0


def sources(revision: str) -> Iterator[Source]:
    """Yields the product's Python files at `revision`."""
    listing = ["git", "ls-files"] if revision == WORKING_TREE else ["git", "ls-tree", "-r", "--name-only", revision]
    names = subprocess.run([*listing, "--", *PRODUCT], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    for name in names.split():
        if not name.endswith(".py"):
            continue
        if revision == WORKING_TREE:
            text = (CHECKOUT / name).read_text()
        else:
            shown = ["git", "show", f"{revision}:{name}"]
            text = subprocess.run(shown, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
        yield Source(name, text, ast.parse(text))


def figures(files: list[Source]) -> dict[str, str]:
    """Returns each figure of `files` by its name, as text for a table."""
    file_lengths = [one.text.count("\n") for one in files]
    function_lengths = sorted(length for one in files for length in _function_lengths(one.tree))
    texts = [text for one in files for text in _docstrings(one.tree)]
    fragments = sum(bool(FRAGMENT.match(text)) for text in texts)
    outside = [one for one in files if not one.path.startswith("echoplane/tasks/")]
    return {
        "files": str(len(files)),
        "lines": f"{sum(file_lengths):,}",
        "files over 300 lines": str(sum(length > 300 for length in file_lengths)),
        "functions": str(len(function_lengths)),
        "lines of a function: median, 9 in 10, longest": ", ".join(map(str, _spread(function_lengths))),
        "docstrings": str(len(texts)),
        "fragments among docstrings": f"{fragments} ({100 * fragments / max(len(texts), 1):.1f} %)",
        "lines that name a task outside echoplane/tasks": str(sum(_task_lines(one.text) for one in outside)),
    }


def _function_lengths(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield node.end_lineno - node.lineno + 1


def _spread(lengths: list[int]) -> tuple[int, int, int]:
    if not lengths:
        return 0, 0, 0
    return round(statistics.median(lengths)), lengths[int(0.9 * (len(lengths) - 1))], lengths[-1]


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Yields the docstrings of modules, classes and functions, and the text under each field or constant."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, statement in zip([None, *body], body, strict=False):
            first_of_definition = before is None and not isinstance(node, ast.If | ast.With | ast.For | ast.Try)
            if _is_text(statement) and (first_of_definition or isinstance(before, ast.Assign | ast.AnnAssign)):
                yield statement.value.value.strip()


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _task_lines(text: str) -> int:
    return sum(bool(TASK_NAME.search(line)) for line in text.splitlines())


if __name__ == "__main__":
    raise SystemExit(main())
