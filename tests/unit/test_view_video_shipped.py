"""The echo-view-video model that ships: its golden check, phantom clips of every view, and what gets no label."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from echoplane import runtimes
from echoplane.phantom import make_patient, scan_echo
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.study.views import VIDEO_VIEWS
from echoplane.tasks.task import probabilities_of

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "echo-view-video"
HEARTS = range(70_000, 70_002)
"""None was used for training."""


@pytest.fixture(scope="module")
def model():
    """Opening it runs its golden input and refuses other outputs."""
    return runtimes.open(SHIPPED, runtimes.InferenceSettings(precision="f32"))


def study_of(frames_THW: np.ndarray) -> Study:
    count, rows, columns = frames_THW.shape
    region = Region("tissue", 0, 0, rows, columns)
    clip = Instance("d", "US", count, rows, columns, Pixels(frames_THW), frame_time_ms=40.0, regions=(region,))
    return Study((clip,))


def screen(view: str, seed: int) -> np.ndarray:
    """A clip as the machine shows it, cropped to the region that its header states."""
    clip = scan_echo(make_patient(seed), view, seed, frames=16)
    x0, y0, x1, y1 = clip.sector.box
    return np.stack([cv2.cvtColor(rgb[y0 : y1 + 1, x0 : x1 + 1], cv2.COLOR_RGB2GRAY) for rgb in clip.rgb])


def test_phantom_clips_of_the_twelve_views_are_read_and_none_gets_a_wrong_label(model):
    answers = [
        (view.name, runtimes.answer(study_of(screen(view.name, seed)), model).result)
        for view in VIDEO_VIEWS
        for seed in HEARTS
    ]
    best = [(view, max(found := probabilities_of(result), key=found.__getitem__)) for view, result in answers]
    assert sum(view == said for view, said in best) >= 22, best
    assert all(result.label in (None, view) for view, result in answers)


def without_view() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "black": np.zeros((12, 300, 400), np.uint8),
        "white": np.full((12, 300, 400), 255, np.uint8),
        "noise": rng.integers(0, 256, (12, 300, 400), dtype=np.uint8),
        "frozen": np.repeat(screen("a4c", HEARTS[0])[:1], 12, axis=0),
    }


@pytest.mark.parametrize("name", ["black", "white", "noise", "frozen"])
def test_a_clip_that_shows_no_beating_heart_gets_no_label(name, model):
    assert runtimes.answer(study_of(without_view()[name]), model).result.label is None


def test_the_bundle_is_small_and_its_card_says_what_was_learnt_from():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 10e6
    card = (SHIPPED / "card.md").read_text()
    assert "no real picture was learnt from" in card
    assert "Research use, not a medical device" in card
