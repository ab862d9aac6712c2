"""View of an echo clip (TTESlowFast, Cheng et al. 2025): one clip, one of twelve views.

The paper's clip length, input size and pathways are not published; ours are our own choice. This module uses numpy only
and is the only preprocessing, for training and serving. Axes: T frame, H row, W column, K label.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from echoplane.errors import UnusableStudy
from echoplane.renamed import AcceptsFormerNames
from echoplane.study.scan_region import with_scan_region
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.study.views import VIDEO_VIEWS
from echoplane.tasks import classify
from echoplane.tasks.calibration import calibrate_samples
from echoplane.tasks.classify import Thresholds, softmax, summarise
from echoplane.tasks.label_shares import APPLIED, with_shares
from echoplane.tasks.picture import crop, decoded_side, letterbox, reason_for_doubt, scan_region
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

NAME = "echo-view-video"
STUDY: Literal["file"] = "file"
TRUTH: Literal["label"] = "label"
TRUTH_COLUMN = "view"
MODALITY = "US"
HEADLINE = ("accuracy", "f1", "calibration_error", "abstained")
ASSUMED_FRAME_TIME_MS = 1000 / 30
"""Frame time of a file that states none: that of the most common cine rate."""


class Preprocessing(AcceptsFormerNames):
    """Settings that turn a clip into the network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    frames: int = Field(16, ge=8, multiple_of=4)
    """Frames sampled from one clip."""
    size: int = Field(64, ge=32)
    """Rows and columns of the network's input, in pixels."""
    span_s: float = Field(1.0, gt=0)
    """Time over which the frames are spread: 1 s is one beat at 60 per minute."""
    min_frames: int = Field(4, ge=2)
    """Minimum number of frames; a clip with fewer is refused, because it shows no motion."""


def labels() -> tuple[Label, ...]:
    return tuple(Label(v.name, v.title, v.code, v.scheme, v.meaning) for v in VIDEO_VIEWS)


def accepts(study: Study) -> bool:
    """Returns True for one ultrasound clip."""
    clips = study.instances
    return not study.cines and len(clips) == 1 and clips[0].modality == MODALITY and clips[0].frame_count > 1


def preprocess(study: Study, config: Preprocessing) -> Prepared:
    """Returns one clip as uint8 (1, frame, row, column): the scan region, letterboxed, frames evenly over `span_s`."""
    clip = with_scan_region(study.only)
    _check(clip, config)
    indices = sample_frames(clip.frame_count, clip.frame_time_ms or ASSUMED_FRAME_TIME_MS, config)
    region, warnings = scan_region(clip)
    frames_THW = clip.frames.grey(indices, smallest_side=decoded_side(clip, region, 2 * config.size))
    cropped = [crop(frame_HW, region, clip) for frame_HW in frames_THW]
    batch = np.stack([letterbox(frame_HW, config.size, config.size) for frame_HW in cropped])
    if clip.frame_time_ms is None:
        warnings += (f"no frame time in the file: {ASSUMED_FRAME_TIME_MS:.1f} ms a frame was assumed",)
    doubt = reason_for_doubt(cropped, clip.frame_count)
    place = {"frames": indices, "top": region.top, "left": region.left, "doubt": doubt}
    return Prepared(batch[None], place, clip.warnings + warnings)


def infer(run: Run, prepared: Prepared) -> np.ndarray:
    """Returns one clip's logits."""
    return run(prepared.batch)


def interpret(outputs: np.ndarray, study: Study, place: Mapping[str, Any], thresholds: Thresholds) -> Result:
    """Returns the label of the mean of the batch's logits, at temperature and against the threshold; none if the clip
    is doubtful."""
    even_K = softmax(np.asarray(outputs, np.float64).mean(axis=0) / thresholds.temperature)
    probabilities_K = with_shares(even_K, names(), thresholds.label_shares)
    best = int(probabilities_K.argmax())
    confidence = float(probabilities_K[best])
    doubt = str(place.get("doubt", "")) or classify.unfamiliar(outputs, thresholds)
    label = names()[best] if confidence >= thresholds.abstain_below and not doubt else None
    probabilities = dict(zip(names(), map(float, probabilities_K), strict=True))
    shares = thresholds.label_shares or {}
    warnings = (*filter(None, (doubt,)), *((APPLIED,) if shares else ()))
    return Classification(label, confidence, warnings, probabilities, shares)


def names() -> list[str]:
    return [label.name for label in labels()]


def samples(study: Study, prepared: Prepared, truth: Truth) -> Samples:
    return classify.labelled(prepared, truth, names())


def calibrate(batches: Iterable[Validated]) -> Calibration:
    return calibrate_samples(batches)


def about(thresholds: Thresholds) -> str:
    return classify.about(thresholds, len(labels()))


def score(result: Result, study: Study, truth: Truth) -> dict[str, Any]:
    return classify.score(result, truth, names())


def summary(rows: Rows) -> dict[str, float]:
    return summarise(rows, names())


def showing(rows: Rows) -> dict[str, np.ndarray]:
    return classify.showing(rows, names())


def details(rows: Rows) -> dict[str, Any]:
    return classify.details(rows, names())


def example(seed: int) -> Study:
    """Returns a bright disc that swells and shrinks on noise, 24 frames of 120 x 160 at 25 Hz."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:120, :160]
    radius = 25 + 10 * np.sin(np.linspace(0, 2 * np.pi, 24, endpoint=False))
    disc_THW = np.hypot(row - 60, column - 80)[None] < radius[:, None, None]
    frames_THW = (disc_THW * 150 + rng.integers(0, 90, disc_THW.shape)).astype(np.uint8)
    region = Region("tissue", 0, 0, 120, 160)
    clip = Instance("example", "US", 24, 120, 160, Pixels(frames_THW), frame_time_ms=40.0, regions=(region,))
    return Study((clip,))


def sample_frames(frame_count: int, frame_time_ms: float, config: Preprocessing) -> list[int]:
    """Returns `frames` indices spread over the first `span_s` of a clip, or over all of a shorter one."""
    spanned = min(frame_count, max(config.min_frames, 1000 * config.span_s / frame_time_ms))
    return [min(int(i * spanned / config.frames), frame_count - 1) for i in range(config.frames)]


def _check(clip: Instance, config: Preprocessing) -> None:
    if clip.modality != "US":
        raise UnusableStudy(f"the modality is {clip.modality}; the view task answers ultrasound (US).")
    if clip.frame_count < config.min_frames:
        raise UnusableStudy(
            f"the clip has {clip.frame_count} frame(s); at least {config.min_frames} are needed to see motion. "
            "Send a cine loop."
        )
