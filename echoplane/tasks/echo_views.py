"""Shared parts of the echo view tasks: labels, preprocessing of frames, the answer, and the figures of scored studies.

Axes: T frame, H row, W column, K label.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ConfigDict

from echoplane.errors import UnusableStudy
from echoplane.renamed import AcceptsFormerNames
from echoplane.study.scan_region import with_scan_region
from echoplane.study.study import Instance, Study
from echoplane.study.views import View
from echoplane.tasks import classify
from echoplane.tasks.label_shares import APPLIED
from echoplane.tasks.picture import IMAGE_KINDS, crop, decoded_side, letterbox, reason_for_doubt, scan_region
from echoplane.tasks.task import Classification, Label, Prepared, Result, Rows, Samples, Truth

MODALITY = "US"
HEADLINE = ("accuracy", "f1", "calibration_error", "abstained")


class Preprocessing(AcceptsFormerNames):
    """Base of the settings that turn a study into a network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Views:
    """The parts of a task that follow from its views alone."""

    views: Sequence[View]

    def labels(self) -> tuple[Label, ...]:
        return tuple(Label(v.name, v.title, v.code, v.scheme, v.meaning) for v in self.views)

    def names(self) -> list[str]:
        return [view.name for view in self.views]

    def samples(self, study: Study, prepared: Prepared, truth: Truth) -> Samples:
        return classify.labelled(prepared, truth, self.names())

    def about(self, thresholds: classify.Thresholds) -> str:
        return classify.about(thresholds, len(self.views))

    def score(self, result: Result, study: Study, truth: Truth) -> dict[str, Any]:
        return classify.score(result, truth, self.names())

    def summary(self, rows: Rows) -> dict[str, float]:
        return classify.summarise(rows, self.names())

    def showing(self, rows: Rows) -> dict[str, np.ndarray]:
        return classify.showing(rows, self.names())

    def details(self, rows: Rows) -> dict[str, Any]:
        return classify.details(rows, self.names())

    def answer(
        self,
        probabilities_K: np.ndarray,
        thresholds: classify.Thresholds,
        doubt: str,
        said: str,
        shares: Mapping[str, float],
    ) -> Result:
        """Returns the most probable view; none under the confidence that it needs or if there is a doubt.

        The doubt, or else what is said of the answer, is a warning, as is that label shares were applied.
        """
        best = int(probabilities_K.argmax())
        confidence = float(probabilities_K[best])
        label = self.names()[best]
        given = confidence >= thresholds.needed_for(label) and not doubt
        probabilities = dict(zip(self.names(), map(float, probabilities_K), strict=True))
        warnings = (*filter(None, (doubt or said,)), *((APPLIED,) if shares else ()))
        return Classification(label if given else None, confidence, warnings, probabilities, shares)


def ultrasound(study: Study) -> Instance:
    """Returns the only instance, with its scan region found if the header names none. Raises UnusableStudy if it is no
    ultrasound."""
    clip = with_scan_region(study.only)
    if clip.modality != MODALITY:
        raise UnusableStudy(f"the modality is {clip.modality}; the view task answers ultrasound (US).")
    return clip


def prepare(
    clip: Instance, indices: list[int], rows: int, columns: int, kinds: Collection[str] = IMAGE_KINDS
) -> Prepared:
    """Returns the frames `indices` as uint8 (frame, row, column): the scan region, fitted into `rows` x `columns`."""
    region, warnings = scan_region(clip, kinds)
    side = decoded_side(clip, region, 2 * max(rows, columns))
    cropped = [crop(frame_HW, region, clip) for frame_HW in clip.frames.grey(indices, smallest_side=side)]
    batch_THW = np.stack([letterbox(frame_HW, rows, columns) for frame_HW in cropped])
    doubt = reason_for_doubt(cropped, clip.frame_count)
    place = {"frames": indices, "top": region.top, "left": region.left, "doubt": doubt}
    return Prepared(batch_THW, place, clip.warnings + warnings)
