"""View of an echo clip (TTESlowFast, Cheng et al. 2025): one clip, one of twelve views.

The paper's clip length, input size and pathways are not published; ours are our own choice. This module uses numpy only
and is the only preprocessing, for training and serving. Axes: T frame, H row, W column, K label.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from echoplane.errors import UnusableStudy
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.study.views import VIDEO_VIEWS
from echoplane.tasks import classify, echo_views
from echoplane.tasks.calibration import calibrate_samples
from echoplane.tasks.classify import Thresholds, softmax
from echoplane.tasks.echo_views import MODALITY, Views, prepare, ultrasound
from echoplane.tasks.label_shares import with_shares
from echoplane.tasks.task import Calibration, Prepared, Result, Run, Validated

NAME = "echo-view-video"
STUDY: Literal["file"] = "file"
TRUTH: Literal["label"] = "label"
TRUTH_COLUMN = "view"
HEADLINE = echo_views.HEADLINE
ASSUMED_FRAME_TIME_MS = 1000 / 30
"""Frame time of a file that states none: that of the most common cine rate."""

_VIEWS = Views(VIDEO_VIEWS)
labels, names, about, samples = _VIEWS.labels, _VIEWS.names, _VIEWS.about, _VIEWS.samples
score, summary, showing, details = _VIEWS.score, _VIEWS.summary, _VIEWS.showing, _VIEWS.details


class Preprocessing(echo_views.Preprocessing):
    """Settings that turn a clip into the network's input."""

    frames: int = Field(16, ge=8, multiple_of=4)
    """Frames sampled from one clip."""
    size: int = Field(64, ge=32)
    """Rows and columns of the network's input, in pixels."""
    span_s: float = Field(1.0, gt=0)
    """Time over which the frames are spread: 1 s is one beat at 60 per minute."""
    min_frames: int = Field(4, ge=2)
    """Minimum number of frames; a clip with fewer is refused, because it shows no motion."""


def accepts(study: Study) -> bool:
    """Returns True for one ultrasound clip."""
    clips = study.instances
    return not study.cines and len(clips) == 1 and clips[0].modality == MODALITY and clips[0].frame_count > 1


def preprocess(study: Study, config: Preprocessing) -> Prepared:
    """Returns one clip as uint8 (1, frame, row, column): the scan region, letterboxed, frames evenly over `span_s`."""
    clip = ultrasound(study)
    _check_length(clip, config)
    indices = sample_frames(clip.frame_count, clip.frame_time_ms or ASSUMED_FRAME_TIME_MS, config)
    prepared = prepare(clip, indices, config.size, config.size)
    warnings = prepared.warnings
    if clip.frame_time_ms is None:
        warnings += (f"no frame time in the file: {ASSUMED_FRAME_TIME_MS:.1f} ms a frame was assumed",)
    return replace(prepared, batch=prepared.batch[None], warnings=warnings)


def infer(run: Run, prepared: Prepared) -> np.ndarray:
    """Returns one clip's logits."""
    return run(prepared.batch)


def interpret(outputs: np.ndarray, study: Study, place: Mapping[str, Any], thresholds: Thresholds) -> Result:
    """Returns the label of the mean of the batch's logits, at temperature and against the threshold; none if the clip
    is doubtful."""
    trained_K = softmax(np.asarray(outputs, np.float64).mean(axis=0) / thresholds.temperature)
    probabilities_K = with_shares(trained_K, names(), thresholds.label_shares, thresholds.trained_shares)
    doubt = str(place.get("doubt", "")) or classify.unfamiliar(outputs, thresholds)
    return _VIEWS.answer(probabilities_K, thresholds, doubt, "", thresholds.label_shares or {})


def calibrate(batches: Iterable[Validated]) -> Calibration:
    return calibrate_samples(batches)


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


def _check_length(clip: Instance, config: Preprocessing) -> None:
    if clip.frame_count < config.min_frames:
        raise UnusableStudy(
            f"the clip has {clip.frame_count} frame(s); at least {config.min_frames} are needed to see motion. "
            "Send a cine loop."
        )
