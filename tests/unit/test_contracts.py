"""The contracts of docs/architecture.md that code can hold."""

import subprocess
import sys

import numpy as np
import pytest

from echoplane import errors, tasks
from echoplane.study.views import VIDEO_VIEWS, by_code

NUMPY_HALF = ("NAME", "Preprocessing", "labels", "preprocess", "infer", "interpret", "summary", "example")
TORCH_HALF = ("Network", "Augmentation", "network", "parts", "loss", "score", "augment")


@pytest.mark.parametrize("name", tasks.NAMES)
def test_a_task_gives_both_halves_under_its_own_name(name: str) -> None:
    task, learning = tasks.by_name(name), tasks.learning(name)
    assert name == task.NAME
    assert all(hasattr(task, part) for part in NUMPY_HALF)
    assert all(hasattr(learning, part) for part in TORCH_HALF)


@pytest.mark.parametrize("name", tasks.NAMES)
def test_an_example_is_the_same_for_the_same_seed_and_can_be_prepared(name: str) -> None:
    task = tasks.by_name(name)
    first, again, other = (task.preprocess(task.example(seed), task.Preprocessing()).batch for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


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
