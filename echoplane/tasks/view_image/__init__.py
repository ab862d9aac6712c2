"""View of an echo picture (Madani et al. 2018, arXiv 1706.08658): a still, or frames of a clip; one of 15 views.

Each frame is classified alone, at 60 x 80 pixels as in the paper; a clip's view is that of the mean probability of its
frames. Doppler and M-mode can also be known from the header alone, by the type of the region. This module uses numpy
only. Axes: T frame, H row, W column, R row of the batch, K label.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from echoplane.errors import UnusableStudy
from echoplane.study.scan_region import with_scan_region
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.study.views import IMAGE_VIEWS, STILL_VIEWS
from echoplane.tasks import classify
from echoplane.tasks.calibration import calibrate_samples
from echoplane.tasks.classify import Thresholds
from echoplane.tasks.label_shares import APPLIED, with_shares
from echoplane.tasks.picture import IMAGE_KINDS, crop, decoded_side, letterbox, reason_for_doubt, scan_region
from echoplane.tasks.task import (
    Calibration,
    Classification,
    Label,
    Prepared,
    Result,
    Rows,
    Run,
    Samples,
    Truth,
    Validated,
)

NAME = "echo-view-image"
STUDY: Literal["file"] = "file"
TRUTH: Literal["label"] = "label"
TRUTH_COLUMN = "view"
MODALITY = "US"
HEADLINE = ("accuracy", "f1", "calibration_error", "abstained")
STRIP_KINDS = tuple(view.name for view in STILL_VIEWS)
KINDS = (*IMAGE_KINDS, *STRIP_KINDS, "spectral")


class Preprocessing(BaseModel):
    """Settings that turn a still or a clip into the network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    frames: int = Field(8, ge=1)
    """Maximum number of frames of a clip that are classified, evenly spread over all of it."""
    rows: int = Field(60, ge=32)
    """Rows of the network's input, in pixels (Madani et al. 2018: 60)."""
    columns: int = Field(80, ge=32)
    """Columns of the network's input, in pixels (Madani et al. 2018: 80)."""
    use_header: bool = True
    """True if a Doppler or M-mode region in the header decides the view, whatever the pixels show."""


def labels() -> tuple[Label, ...]:
    return tuple(Label(v.name, v.title, v.code, v.scheme, v.meaning) for v in IMAGE_VIEWS)


def accepts(study: Study) -> bool:
    """Returns True for one ultrasound still or clip."""
    return not study.cines and len(study.instances) == 1 and study.instances[0].modality == MODALITY


def preprocess(study: Study, config: Preprocessing) -> Prepared:
    """Returns frames as uint8 (frame, row, column): the scan region, fitted into rows x columns."""
    clip = with_scan_region(study.only)
    if clip.modality != "US":
        raise UnusableStudy(f"the modality is {clip.modality}; the view task answers ultrasound (US).")
    indices = sample_frames(clip.frame_count, config.frames)
    region, warnings = scan_region(clip, KINDS)
    side = decoded_side(clip, region, 2 * max(config.rows, config.columns))
    cropped = [crop(frame_HW, region, clip) for frame_HW in clip.frames.grey(indices, smallest_side=side)]
    batch = np.stack([letterbox(frame_HW, config.rows, config.columns) for frame_HW in cropped])
    place = {
        "frames": indices,
        "top": region.top,
        "left": region.left,
        "doubt": reason_for_doubt(cropped, clip.frame_count),
        "stated": view_in_header(clip) if config.use_header else "",
    }
    return Prepared(batch, place, clip.warnings + warnings)


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
    probabilities_K = with_shares(classify.softmax(logits_RK).mean(axis=0), names(), shares)
    if stated:
        probabilities_K = np.array([float(name == stated) for name in names()])
    best = int(probabilities_K.argmax())
    confidence = float(probabilities_K[best])
    doubt = str(place.get("doubt", "")) or ("" if stated else classify.unfamiliar(outputs, thresholds))
    label = names()[best] if confidence >= thresholds.abstain_below and not doubt else None
    said = f"{stated} is what the header says of its region" if stated else ""
    applied = {} if stated or shares is None else shares
    warnings = (*filter(None, (doubt or said,)), *((APPLIED,) if applied else ()))
    probabilities = dict(zip(names(), map(float, probabilities_K), strict=True))
    return Classification(label, confidence, warnings, probabilities, applied)


def names() -> list[str]:
    return [view.name for view in IMAGE_VIEWS]


def samples(study: Study, prepared: Prepared, truth: Truth) -> Samples:
    return classify.labelled(prepared, truth, names())


def calibrate(batches: Iterable[Validated]) -> Calibration:
    return calibrate_samples(batches)


def about(thresholds: Thresholds) -> str:
    return classify.about(thresholds, len(labels()))


def score(result: Result, study: Study, truth: Truth) -> dict[str, Any]:
    return classify.score(result, truth, names())


def summary(rows: Rows) -> dict[str, float]:
    return classify.summarise(rows, names())


def showing(rows: Rows) -> dict[str, np.ndarray]:
    return classify.showing(rows, names())


def details(rows: Rows) -> dict[str, Any]:
    return classify.details(rows, names())


def example(seed: int) -> Study:
    """Returns a bright disc on speckle, one frame of 120 x 160."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:120, :160]
    disc_HW = np.hypot(row - rng.integers(50, 70), column - rng.integers(60, 100)) < rng.integers(20, 35)
    frame_HW = (disc_HW * 150 + rng.integers(0, 60, disc_HW.shape)).astype(np.uint8)
    region = Region("tissue", 0, 0, 120, 160)
    return Study((Instance("example", "US", 1, 120, 160, Pixels(frame_HW[None]), regions=(region,)),))
