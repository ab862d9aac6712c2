"""The contracts of docs/architecture.md that code can hold."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from echoplane import errors, tasks
from echoplane.study.views import VIDEO_VIEWS, by_code

ROOT = Path(__file__).resolve().parents[2]
NUMPY_HALF = (
    "NAME",
    "Preprocessing",
    "Thresholds",
    "accepts",
    "labels",
    "preprocess",
    "infer",
    "interpret",
    "summary",
    "example",
)
TORCH_HALF = ("Network", "Augmentation", "network", "parts", "loss", "score", "augment")


@pytest.mark.parametrize("name", tasks.BUILT_IN)
def test_a_task_gives_both_halves_under_its_own_name(name: str) -> None:
    task, learning = tasks.by_name(name), tasks.learning(name)
    assert name == task.NAME
    assert all(hasattr(task, part) for part in NUMPY_HALF)
    assert all(hasattr(learning, part) for part in TORCH_HALF)


@pytest.mark.parametrize("name", tasks.BUILT_IN)
def test_an_example_is_the_same_for_the_same_seed_and_can_be_prepared(name: str) -> None:
    task = tasks.by_name(name)
    first, again, other = (task.preprocess(task.example(seed), task.Preprocessing()).batch for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_task_accepts_its_own_example_and_those_of_the_same_kind() -> None:
    examples = {name: tasks.by_name(name).example(0) for name in tasks.BUILT_IN}
    accepting = {
        name: {other for other in tasks.BUILT_IN if tasks.by_name(other).accepts(example)}
        for name, example in examples.items()
    }
    assert accepting == {
        "echo-view-video": {"echo-view-video", "echo-view-image"},
        "echo-view-image": {"echo-view-image"},
        "cmr-segmentation": {"cmr-segmentation"},
    }


NAMES_OF_TASKS = re.compile(r"echo[-_]view[-_](?:video|image)|cmr[-_]segmentation|\bview_(?:video|image)\b")
DEFAULTS = {
    "components/dataset/component.py",
    "echoplane/cli/__init__.py",  # the example of a command
    "echoplane/cli/predict.py",
    "echoplane/client/__init__.py",  # the example of a call
    "echoplane/stages/batch.py",
    "echoplane/stages/dataset.py",
    "echoplane/stages/measure.py",  # the command of cine MR alone, whose default is the shipped bundle
    "pipelines/batch_inference.py",
    "pipelines/cmr.py",  # the pipeline of cine MR alone
    "serving/api/http/feedback.py",  # the example of a correction
    "serving/api/http/schemas.py",  # the example of an answer
}
"""Files that name a task as the default of a setting that a user may change, or in an example."""


def test_nothing_outside_tasks_and_policies_names_a_task_but_as_a_default() -> None:
    product = [
        path for room in ("echoplane", "serving", "components", "pipelines") for path in (ROOT / room).rglob("*")
    ]
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in product
        if path.suffix in (".py", ".html", ".json", ".yaml") and NAMES_OF_TASKS.search(path.read_text())
    }
    inside = ("echoplane/tasks/", "echoplane/policies/")
    assert {name for name in naming if not name.startswith(inside)} == DEFAULTS


@pytest.mark.parametrize(
    "module",
    ["echoplane.tasks.view_video", "echoplane.bundle", "echoplane.runtimes", "echoplane.dataset", "echoplane.cli"],
)
def test_importing_a_room_brings_no_torch(module: str) -> None:
    heavy = "torch", "kfp", "ray", "mlflow"
    code = f"import sys, {module}; sys.exit(', '.join(m for m in {heavy!r} if m in sys.modules) or 0)"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_view_codes_are_unique_and_lead_back_to_their_view() -> None:
    assert len({(v.scheme, v.code) for v in VIDEO_VIEWS}) == len(VIDEO_VIEWS) == 12
    assert all(by_code(v.scheme, v.code) is v for v in VIDEO_VIEWS)


def test_view_codes_are_those_of_the_standard() -> None:
    from pydicom.sr.codedict import codes

    standard = {getattr(codes.cid12226, name) for name in codes.cid12226.dir()}
    known = {(c.scheme_designator, c.value): c.meaning for c in standard}
    for view in VIDEO_VIEWS:
        assert view.scheme == "99ECHOPLANE" or known[(view.scheme, view.code)] == view.meaning


def test_every_input_error_has_a_4xx_status_of_its_own_kind() -> None:
    kinds = errors.InputError.__subclasses__()
    assert all(400 <= kind.status < 500 for kind in kinds)
    assert len({kind.kind for kind in kinds}) == len(kinds)
