"""Breaks the code in listed ways and sees a test fail: `make mutants`.

Each mutant is one change of one line that a tired person could make. The checkout is copied, the change made in the
copy, and the named test run there; a mutant that no test notices is an error, as is one whose line has gone."""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """`old` in `file` becomes `new`; `test` must fail. `room` is what it breaks."""

    room: str
    file: str
    old: str
    new: str
    test: str


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "preprocess",
        "echoplane/tasks/view_video/__init__.py",
        'if r.kind in ("tissue", "colour-flow")',
        'if r.kind in ("trace",)',
        "tests/unit/test_tasks.py::test_what_lies_outside_the_scan_region_never_reaches_the_network",
    ),
    Mutant(
        "preprocess",
        "echoplane/tasks/view_video/__init__.py",
        "1000 * config.span_s / frame_time_ms",
        "25 * config.span_s",
        "tests/unit/test_tasks.py::test_frames_are_spread_over_one_second_whatever_the_frame_rate",
    ),
    Mutant(
        "stages",
        "echoplane/stages/stage.py",
        "intact = manifest.key == key and manifest.digest == digest_of(file_digests(final))",
        "intact = manifest.key == key",
        "tests/unit/test_stage.py::test_a_damaged_folder_is_made_again",
    ),
)


def main() -> int:
    """Exit status 0 where every mutant was caught."""
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied_checkout(Path(folder) / "echoplane")
        for number, mutant in enumerate(MUTANTS, 1):
            verdict = _try(mutant, copy)
            missed += verdict != "caught"
            sys.stdout.write(f"{number}/{len(MUTANTS)} {verdict:<8} {mutant.room:<12} {mutant.new.strip()[:60]}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(MUTANTS) - missed} caught, {missed} missed\n")
    return int(missed > 0)


def _copied_checkout(target: Path) -> Path:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)
    return target


def _try(mutant: Mutant, copy: Path) -> str:
    """caught, missed, stale (its line is not there exactly once) or broken (its test fails without it)."""
    path = copy / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        return "stale"
    if _failed(mutant.test, copy):
        return "broken"
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        return "caught" if _failed(mutant.test, copy) else "missed"
    finally:
        path.write_text(source)


def _failed(test: str, copy: Path) -> bool:
    """Whether the test ran and failed; an error that kept it from running is none of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    return subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 1


if __name__ == "__main__":
    sys.exit(main())
