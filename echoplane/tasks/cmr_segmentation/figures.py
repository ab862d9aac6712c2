"""Measures and flags of one study from its masks, made by the network or corrected by a person.

Axes: T phase, Z slice, H row, W column."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from echoplane.errors import ConfigError
from echoplane.study.cine import HEART_RATES_BPM, Cine
from echoplane.study.cine_files import FOUND
from echoplane.study.nifti import write_nifti
from echoplane.study.study import Study
from echoplane.study.subject import Subject
from echoplane.tasks import task
from echoplane.tasks.cmr_segmentation import measures as measuring
from echoplane.tasks.cmr_segmentation.base_plane import ANNULUS_PIXELS, valve_slices
from echoplane.tasks.cmr_segmentation.coverage import (
    growth_flags,
    missing_slice_flags,
    repeated_slice_flags,
    stack_end_flags,
)
from echoplane.tasks.cmr_segmentation.derived import BASE, body_as_json, derived, reference_as_json
from echoplane.tasks.cmr_segmentation.quality import Flag, plausibility_flags, stroke_volume_flags, ventricle_flags
from echoplane.tasks.cmr_segmentation.segments import Wall, wall_segments
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY, PLANES, SHOWN, STRUCTURES


@dataclass(frozen=True)
class Segmentation(task.Segmentation):
    """Masks, measures and flags of one study; `label` is "measured", or None if a flag says that they may be wrong."""

    measures: dict[str, float | None] = field(default_factory=dict)
    curves: dict[str, measuring.Curve] = field(default_factory=dict)
    ed: int = 0
    es: int = 0
    wall: Wall = field(default_factory=Wall)
    subject: Subject = field(default_factory=Subject, repr=False)
    flags: tuple[Flag, ...] = ()
    mask_flags: tuple[Flag, ...] = ()
    """The subset of `flags` that concerns how the masks were made, and holds for every measurement of them."""

    def details(self) -> dict[str, Any]:
        """Returns measures by name (the unit is its suffix), curves, phases and flags as plain data."""
        return {
            "measures": {name: rounded(value) for name, value in self.measures.items()},
            "ed_phase": self.ed,
            "es_phase": self.es,
            "curves": {
                name: {"unit": curve.unit, "values": [rounded(v) for v in curve.size_T]}
                for name, curve in self.curves.items()
            },
            "wall": self.wall.as_json(),
            "body": body_as_json(self.subject),
            "reference": reference_as_json(self.subject),
            "expected_dice": rounded(self.confidence),
            "flags": [
                {"name": flag.name, "sentence": flag.sentence, "concerns": list(flag.measures)} for flag in self.flags
            ],
            "doubtful": list(self.doubtful),
        }

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Names of the measures that a flag concerns, and of those derived from them, in the order of the report."""
        concerned = {name for flag in self.flags for name in flag.measures}
        return tuple(name for name in self.measures if BASE.get(name, name) in concerned)

    def files(self, study: Study) -> dict[str, bytes]:
        """Returns a NIfTI mask by file name, one per cine, on its grid and with its affine."""
        return {FOUND[cine.plane]: write_nifti(self.masks[cine.plane], cine) for cine in study.cines}


def rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 3)


def from_masks(
    masks: dict[str, np.ndarray],
    study: Study,
    *,
    expected_dice: float | None,
    flags: tuple[Flag, ...] = (),
    warnings: tuple[str, ...] = (),
    ed: int | None = None,
    es: int | None = None,
) -> Segmentation:
    """Measures masks by plane, uint8 (phase, slice, row, column) on the grids of the study's cines.

    `ed` and `es` are the phases to measure at, by default those found from the volumes. `flags` and `warnings` are
    those of how the masks were made.
    """
    stack = study.cines[0]
    labels_TZHW = masks[PLANES[0]]
    curves = {s.name: measuring.volume_curve(labels_TZHW, s.value, stack) for s in STRUCTURES[1:4]}
    lv_T = curves["lv-cavity"].size_T
    chosen = ed is not None
    ed = measuring.end_diastole(lv_T, stack.covers_beat) if ed is None else _checked_phase(ed, stack)
    es = measuring.end_systole(lv_T) if es is None else _checked_phase(es, stack)
    cines = {cine.plane: cine for cine in study.cines}
    by_structure = {
        (cine.plane, k): masks[cine.plane][:, 0] == k for cine in study.cines[1:] for k in SHOWN[cine.plane][1:]
    }
    found = measuring.ventricles(labels_TZHW, stack, ed, es) if lv_T.any() else {}  # no heart: no volume, not 0 mL
    found |= measuring.atria(by_structure, cines)
    annulus_T = valve_slices(masks, cines, stack, pixels=ANNULUS_PIXELS)
    further = derived(found, curves["lv-cavity"], stack, ed, es, annulus_T)
    all_flags = (*flags, *_flags(labels_TZHW, stack, lv_T, found, ed, es, valve_slices(masks, cines, stack)))
    return Segmentation(
        label=None if all_flags else "measured",
        confidence=expected_dice,
        warnings=tuple(dict.fromkeys((*_warnings(stack, lv_T, 0 if chosen else ed), *warnings))),  # once per study
        measures={name: found.get(name) for name in measuring.HEADERS} | further,
        curves=curves,
        masks=masks,
        ed=ed,
        es=es,
        wall=wall_segments(labels_TZHW, stack, ed, es),
        subject=stack.subject,
        flags=all_flags,
        mask_flags=flags,
    )


def remeasured(found: Segmentation, study: Study, ed: int | None, es: int | None) -> Segmentation:
    """Measures the same masks at phases that a person chose."""
    if ed is None and es is None:
        return found
    again = from_masks(
        found.masks, study, expected_dice=found.confidence, flags=found.mask_flags,
        ed=found.ed if ed is None else ed, es=found.es if es is None else es,
    )  # fmt: skip
    said = f"measured at phases {again.ed} and {again.es}, which a person chose"
    return replace(again, warnings=(*dict.fromkeys((*found.warnings, *again.warnings)), said))


def _flags(
    labels_TZHW: np.ndarray,
    stack: Cine,
    lv_T: np.ndarray,
    found: Mapping[str, float | None],
    ed: int,
    es: int,
    valve_T: np.ndarray | None,
) -> list[Flag]:
    counts_TZ = measuring.slice_counts(labels_TZHW, LV_CAVITY, stack)
    flags = ventricle_flags(labels_TZHW, lv_T, ed, es, stack)
    flags += missing_slice_flags(counts_TZ, stack, ed, es)
    flags += repeated_slice_flags(stack)
    flags += stack_end_flags(labels_TZHW, stack, ed, es, valve_T) + growth_flags(labels_TZHW, stack, ed, es)
    return flags + stroke_volume_flags(found) + plausibility_flags(found, measuring.HEADERS)


def _checked_phase(phase: int, stack: Cine) -> int:
    if not 0 <= phase < stack.phases:
        raise ConfigError(f"phase {phase} is not in the cine; it has phases 0 to {stack.phases - 1}.")
    return phase


def _warnings(stack: Cine, lv_T: np.ndarray, ed: int) -> tuple[str, ...]:
    said = []
    if ed and stack.covers_beat:
        said.append(f"the cine does not start at end diastole: phase {ed}, of the largest LV volume, was taken for it")
    if not stack.covers_beat:
        said.append(f"the {len(lv_T)} phases cover no whole beat: no heart rate from them, and no cardiac output")
    elif stack.frame_time_ms and measuring.heart_rate_bpm(stack) is None:
        low, high = HEART_RATES_BPM
        said.append(f"the times between phases give no heart rate from {low} to {high} a minute: no cardiac output")
    return tuple(said)
