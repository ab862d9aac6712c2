"""From what `inference` kept of the network's outputs to masks on the input's grid, measures and flags.

Axes: B row of the batch, T phase, Z slice, H row, W column."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from echoplane.study.cine import HEART_RATES_BPM, Cine, display_turn, turned, turned_back
from echoplane.study.cine_files import FOUND
from echoplane.study.nifti import write_nifti
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import measures as measuring
from echoplane.tasks.cmr_segmentation.cleaning import cleaned_slice, cleaned_stack
from echoplane.tasks.cmr_segmentation.inference import averaged, pairs
from echoplane.tasks.cmr_segmentation.overlap import dice
from echoplane.tasks.cmr_segmentation.quality import (
    Flag,
    agreement_flags,
    atrium_flags,
    plausibility_flags,
    ventricle_flags,
)
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY, PLANES, SHOWN, STRUCTURES
from echoplane.tasks.task import Result, Thresholds


@dataclass(frozen=True)
class Segmentation(Result):
    """`label` is "measured", or None where a flag says that the figures may be wrong."""

    measures: dict[str, float | None] = field(default_factory=dict)
    curves: dict[str, measuring.Curve] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """By plane, uint8 (phase, slice, row, column) on the input's grid."""
    ed: int = 0
    es: int = 0
    flags: tuple[Flag, ...] = ()

    def details(self) -> dict[str, Any]:
        """Measures by name with their unit, curves, phases and flags."""
        return {
            "measures": {name: rounded(value) for name, value in self.measures.items()},
            "ed_phase": self.ed,
            "es_phase": self.es,
            "curves": {
                name: {"unit": curve.unit, "values": [rounded(v) for v in curve.size_T]}
                for name, curve in self.curves.items()
            },
            "expected_dice": rounded(self.confidence),
            "flags": [{"name": flag.name, "sentence": flag.sentence} for flag in self.flags],
        }

    def files(self, study: Study) -> dict[str, bytes]:
        """A NIfTI mask on the grid of each cine, with its affine."""
        return {FOUND[cine.plane]: write_nifti(self.masks[cine.plane], cine) for cine in study.cines}


def rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def interpret(outputs: np.ndarray, study: Study, place: Mapping[str, Any], thresholds: Thresholds) -> Segmentation:
    """Masks on the input's grid, measures and flags from what `infer` kept of the outputs."""
    agreement, outputs = _mirrored_dice(outputs, place), averaged(outputs, place)
    raw: dict[str, np.ndarray] = {
        cine.plane: _on_grid(outputs["classes"], number, cine, place) for number, cine in enumerate(study.cines)
    }
    masks: dict[str, np.ndarray] = {PLANES[0]: np.stack([cleaned_stack(labels_ZHW) for labels_ZHW in raw[PLANES[0]]])}
    for cine in study.cines[1:]:
        shown = SHOWN[cine.plane]
        cleaned = [cleaned_slice(labels_HW, shown) for labels_HW in raw[cine.plane][:, 0]]
        masks[cine.plane] = np.stack(cleaned)[:, None]
    return _measured(outputs, study, place, thresholds, raw, masks, agreement)


def _measured(
    outputs: np.ndarray,
    study: Study,
    place: Mapping[str, Any],
    thresholds: Thresholds,
    raw: dict[str, np.ndarray],
    masks: dict[str, np.ndarray],
    agreement: dict[str, float | None],
) -> Segmentation:
    stack = study.cines[0]
    labels_TZHW = masks[PLANES[0]]
    curves = {s.name: measuring.volume_curve(labels_TZHW, s.value, stack) for s in STRUCTURES[1:4]}
    lv_T = curves["lv-cavity"].size_T
    ed, es = measuring.end_diastole(lv_T, stack.covers_beat), measuring.end_systole(lv_T)
    by_structure = {
        (cine.plane, k): masks[cine.plane][:, 0] == k for cine in study.cines[1:] for k in SHOWN[cine.plane][1:]
    }
    found = measuring.ventricles(labels_TZHW, stack, ed, es) if lv_T.any() else {}  # no heart has no volume, not 0 mL
    found |= measuring.atria(by_structure, {cine.plane: cine for cine in study.cines})
    expected = expected_dice(outputs, place, (ed, es))
    flags = ventricle_flags(labels_TZHW, raw[PLANES[0]], lv_T, ed, es, stack.covers_beat)
    flags += plausibility_flags(found, measuring.HEADERS)
    flags += agreement_flags(agreement, expected, thresholds.abstain_below)
    for cine in study.cines[1:]:
        flags += atrium_flags(cine.plane, raw[cine.plane][:, 0], SHOWN[cine.plane])
    warnings = _warnings(stack, lv_T, ed)
    return Segmentation(
        label=None if flags else "measured",
        confidence=expected,
        probabilities={},
        warnings=warnings,
        measures={name: found.get(name) for name in measuring.HEADERS},
        curves=curves,
        masks=masks,
        ed=ed,
        es=es,
        flags=tuple(flags),
    )


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


def _on_grid(classes_BHW: np.ndarray, number: int, cine: Cine, place: Mapping[str, Any]) -> np.ndarray:
    """The classes of cine `number` on its own grid (T, Z, H, W); 0 where the files hold no slice."""
    labels_TZHW = np.zeros(cine.voxels_TZHW.shape, np.uint8)
    rows, columns = place["sides"][number]
    turn = display_turn(cine.affine, cine.plane)
    shape = turned(np.empty(cine.voxels_TZHW.shape[2:], bool), turn).shape
    count = len(place["rows"]) - place["mirrored"]
    for k, (which, t, z) in enumerate(place["rows"][:count]):
        if which == number:
            labels_HW = classes_BHW[k, :rows, :columns]
            if labels_HW.shape != shape:
                labels_HW = _enlarged(labels_HW, shape)
            labels_TZHW[t, z] = turned_back(labels_HW, turn)
    return labels_TZHW


def _enlarged(labels_HW: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """To another grid, each structure's share of a pixel interpolated: smooth edges, no stairs."""
    present = np.unique(labels_HW)
    shares = [
        cv2.resize((labels_HW == k).astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR) for k in present
    ]
    return present[np.argmax(shares, axis=0)].astype(np.uint8)


def expected_dice(outputs: np.ndarray, place: Mapping[str, Any], phases: tuple[int, ...]) -> float:
    """The lowest Dice of the LV cavity that the network's probabilities promise at `phases` of the short axis."""
    count, lowest = len(place["rows"]) - place["mirrored"], 1.0
    for phase in phases:
        rows = [k for k, (number, t, _) in enumerate(place["rows"][:count]) if number == 0 and t == phase]
        pixels = sum(int((outputs["classes"][k] == LV_CAVITY).sum()) for k in rows)
        mass, inside = (float(outputs[name][rows, LV_CAVITY].sum()) for name in ("mass", "inside"))
        lowest = min(lowest, 2 * inside / (mass + pixels) if mass + pixels else 0.0)
    return lowest


def _mirrored_dice(outputs: np.ndarray, place: Mapping[str, Any]) -> dict[str, float | None]:
    """Dice of the LV cavity between the answer and that to the mirrored slices, a mirrored phase each."""
    by_phase: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for k, other in pairs(place):
        plain, mirrored = outputs["classes"][k], outputs["classes"][other][:, ::-1]
        by_phase.setdefault(place["rows"][k][1], []).append((plain == LV_CAVITY, mirrored == LV_CAVITY))
    return {
        f"phase {phase}": dice(np.stack([a for a, _ in found]), np.stack([b for _, b in found]))
        for phase, found in by_phase.items()
    }
