"""View of an echo picture (Madani et al. 2018, arXiv 1706.08658): a still, or frames of a clip; one of 15 views.

Each frame is classified alone, at 60 x 80 pixels as in the paper; a clip's view is that of the mean probability of its
frames. Doppler and M-mode can also be known from the header alone, by the type of the region. This module uses numpy
only. Axes: T frame, H row, W column, R row of the batch, K label.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.study.views import IMAGE_VIEWS, STILL_VIEWS
from echoplane.tasks import classify, echo_views
from echoplane.tasks.calibration import calibrate_samples
from echoplane.tasks.classify import Thresholds
from echoplane.tasks.echo_views import MODALITY, Views, prepare, ultrasound
from echoplane.tasks.label_shares import with_shares
from echoplane.tasks.picture import IMAGE_KINDS
from echoplane.tasks.task import Calibration, Prepared, Result, Run, Validated

NAME = "echo-view-image"
STUDY: Literal["file"] = "file"
TRUTH: Literal["label"] = "label"
TRUTH_COLUMN = "view"
HEADLINE = echo_views.HEADLINE
STRIP_KINDS = tuple(view.name for view in STILL_VIEWS)
KINDS = (*IMAGE_KINDS, *STRIP_KINDS, "spectral")

_VIEWS = Views(IMAGE_VIEWS)
labels, names, about, samples = _VIEWS.labels, _VIEWS.names, _VIEWS.about, _VIEWS.samples
score, summary, showing, details = _VIEWS.score, _VIEWS.summary, _VIEWS.showing, _VIEWS.details


class Preprocessing(echo_views.Preprocessing):
    """Settings that turn a still or a clip into the network's input."""

    frames: int = Field(8, ge=1)
    """Maximum number of frames of a clip that are classified, evenly spread over all of it."""
    rows: int = Field(60, ge=32)
    """Rows of the network's input, in pixels (Madani et al. 2018: 60)."""
    columns: int = Field(80, ge=32)
    """Columns of the network's input, in pixels (Madani et al. 2018: 80)."""
    use_header: bool = True
    """True if a Doppler or M-mode region in the header decides the view, whatever the pixels show."""


def accepts(study: Study) -> bool:
    """Returns True for one ultrasound still or clip."""
    return not study.cines and len(study.instances) == 1 and study.instances[0].modality == MODALITY


def preprocess(study: Study, config: Preprocessing) -> Prepared:
    """Returns frames as uint8 (frame, row, column): the scan region, fitted into rows x columns."""
    clip = ultrasound(study)
    indices = sample_frames(clip.frame_count, config.frames)
    prepared = prepare(clip, indices, config.rows, config.columns, KINDS)
    stated = view_in_header(clip) if config.use_header else ""
    return replace(prepared, place={**prepared.place, "stated": stated})


def sample_frames(frame_count: int, most: int) -> list[int]:
    """Returns the indices of up to `most` frames, evenly spread, each from the middle of its part of the clip."""
    count = min(frame_count, most)
    return [int((k + 0.5) * frame_count / count) for k in range(count)]


def view_in_header(clip: Instance) -> str:
    """Returns the name of the Doppler or M-mode view that the largest region states (PS3.3 C.8.5.5); else "".

    A spectrum whose region does not tell pulsed from continuous Doppler is left to the pixels.
    """
    shown = [region for region in clip.regions if region.kind in KINDS]
    kind = max(shown, key=lambda region: region.area).kind if shown else ""
    return kind if kind in STRIP_KINDS else ""


def infer(run: Run, prepared: Prepared) -> np.ndarray:
    """Returns the logits of all frames."""
    return run(prepared.batch)


def interpret(outputs: np.ndarray, study: Study, place: Mapping[str, Any], thresholds: Thresholds) -> Result:
    """Returns the view in the header if it states one, else that of the mean probability over frames; none if the
    picture is doubtful.

    Probabilities are averaged rather than votes counted, so that an uncertain frame weighs less.
    """
    logits_RK = np.asarray(outputs, np.float64) / thresholds.temperature
    stated, shares = str(place.get("stated", "")), thresholds.label_shares
    trained_K = classify.softmax(logits_RK).mean(axis=0)
    probabilities_K = with_shares(trained_K, names(), shares, thresholds.trained_shares)
    if stated:
        probabilities_K = np.array([float(name == stated) for name in names()])
    doubt = str(place.get("doubt", "")) or ("" if stated else classify.unfamiliar(outputs, thresholds))
    said = f"{stated} is what the header says of its region" if stated else ""
    applied = {} if stated or shares is None else shares
    return _VIEWS.answer(probabilities_K, thresholds, doubt, said, applied)


def calibrate(batches: Iterable[Validated]) -> Calibration:
    return calibrate_samples(batches)


def example(seed: int) -> Study:
    """Returns a bright disc on speckle, one frame of 120 x 160."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:120, :160]
    disc_HW = np.hypot(row - rng.integers(50, 70), column - rng.integers(60, 100)) < rng.integers(20, 35)
    frame_HW = (disc_HW * 150 + rng.integers(0, 60, disc_HW.shape)).astype(np.uint8)
    region = Region("tissue", 0, 0, 120, 160)
    return Study((Instance("example", "US", 1, 120, 160, Pixels(frame_HW[None]), regions=(region,)),))
