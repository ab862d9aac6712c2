"""The echo-view-image model that ships: its golden check, phantom stills of the main views, and what gets no label."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from echoplane import runtimes
from echoplane.phantom import BEDSIDE, make_patient, scan_echo, scan_strip
from echoplane.phantom.strip_screen import STRIP_NAMES
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.tasks.task import probabilities_of

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "echo-view-image"
HEARTS = range(70_000, 70_008)
"""None was used for training."""


@pytest.fixture(scope="module")
def model():
    """Opening it runs its golden input and refuses other outputs."""
    return runtimes.open(SHIPPED, runtimes.InferenceSettings(precision="f32"))


def study_of(frames_THW: np.ndarray, kind: str = "tissue") -> Study:
    count, rows, columns = frames_THW.shape
    region = Region(kind, 0, 0, rows, columns)
    return Study((Instance("d", "US", count, rows, columns, Pixels(frames_THW), regions=(region,)),))


def still(view: str, seed: int) -> np.ndarray:
    """One frame as the machine shows it, cropped to the region that its header states."""
    clip = scan_echo(make_patient(seed, BEDSIDE), view, seed, frames=1, ranges=BEDSIDE)
    x0, y0, x1, y1 = clip.sector.box
    return cv2.cvtColor(clip.rgb[0, y0 : y1 + 1, x0 : x1 + 1], cv2.COLOR_RGB2GRAY)[None]


@pytest.mark.parametrize("view", ["plax", "sax-mid", "a4c", "a2c", "a3c", "subcostal-4c", "subcostal-ivc"])
def test_half_the_phantom_stills_of_a_main_view_are_read_and_few_get_a_wrong_label(view, model):
    results = [runtimes.answer(study_of(still(view, seed)), model).result for seed in HEARTS]
    answers = [probabilities_of(result) for result in results]
    assert sum(max(found, key=found.get) == view for found in answers) >= 4
    assert sum(result.label not in (None, view) for result in results) <= 1


@pytest.mark.parametrize("kind", STRIP_NAMES)
def test_a_strip_is_known_by_its_pixels(kind, model):
    strip = scan_strip(make_patient(70_000, BEDSIDE), kind, 1, ranges=BEDSIDE)
    x0, y0, x1, y1 = strip.box
    grey_HW = cv2.cvtColor(strip.rgb[0, y0 : y1 + 1, x0 : x1 + 1], cv2.COLOR_RGB2GRAY)
    found = probabilities_of(runtimes.answer(study_of(grey_HW[None], "spectral"), model).result)
    assert max(found, key=found.get) == kind


def without_view() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    frozen = np.repeat(still("a4c", HEARTS[0]), 12, axis=0)
    return {
        "black": np.zeros((1, 300, 400), np.uint8),
        "white": np.full((1, 300, 400), 255, np.uint8),
        "noise": rng.integers(0, 256, (1, 300, 400), dtype=np.uint8),
        "frozen": frozen,
    }


@pytest.mark.parametrize("name", ["black", "white", "noise", "frozen"])
def test_a_picture_that_shows_no_beating_heart_gets_no_label(name, model):
    assert runtimes.answer(study_of(without_view()[name]), model).result.label is None


def test_the_bundle_is_small_and_its_card_says_what_was_learnt_from():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 10e6
    card = (SHIPPED / "card.md").read_text()
    assert "no real picture was learnt from" in card
    assert "Research use, not a medical device" in card
