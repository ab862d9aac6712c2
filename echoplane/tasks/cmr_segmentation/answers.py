"""Postprocessing: turns the outputs that `inference` kept into masks on the input's grid, which `figures` measures.

Axes: B row of the batch, T phase, Z slice, H row, W column."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from echoplane.study.cine import Cine, display_turn, turned, turned_back
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import measures as measuring
from echoplane.tasks.cmr_segmentation.base_plane import valve_slices, ventricle_without_atrium
from echoplane.tasks.cmr_segmentation.cleaning import cleaned_slice, cleaned_stack
from echoplane.tasks.cmr_segmentation.figures import Segmentation, from_masks
from echoplane.tasks.cmr_segmentation.inference import averaged, pairs
from echoplane.tasks.cmr_segmentation.overlap import dice
from echoplane.tasks.cmr_segmentation.quality import agreement_flags, atrium_flags, removed_flags
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY, PLANES, SHOWN
from echoplane.tasks.cmr_segmentation.thresholds import Thresholds


def interpret(outputs: np.ndarray, study: Study, place: Mapping[str, Any], thresholds: Thresholds) -> Segmentation:
    """Returns masks on the input's grid, measures and flags, from the records that `infer` returned."""
    agreement, outputs = _mirrored_dice(outputs, place), averaged(outputs, place)
    raw = {cine.plane: _on_grid(outputs["classes"], number, cine, place) for number, cine in enumerate(study.cines)}
    masks, warnings = clean_masks(raw, study)
    stack = study.cines[0]
    phases = _ends(masks[stack.plane], stack)
    expected = expected_dice(outputs, place, phases)
    flags = removed_flags(masks[stack.plane], raw[stack.plane], phases)
    flags += agreement_flags(agreement, expected, thresholds.abstain_below)
    for cine in study.cines[1:]:
        flags += atrium_flags(cine.plane, raw[cine.plane][:, 0], SHOWN[cine.plane])
    return from_masks(masks, study, expected_dice=expected, flags=tuple(flags), warnings=warnings)


def clean_masks(raw: Mapping[str, np.ndarray], study: Study) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns the masks by plane without voxels that cannot belong to their structure, and warnings on the removal."""
    masks = {cine.plane: _cleaned(raw[cine.plane], cine) for cine in study.cines}
    stack = study.cines[0]
    ed, _ = _ends(masks[stack.plane], stack)
    valve_T = valve_slices(masks, {cine.plane: cine for cine in study.cines}, stack)
    masks[stack.plane], removed = ventricle_without_atrium(masks[stack.plane], stack, ed, valve_T)
    by = "by muscle around it" if valve_T is None else "by the long axis planes"
    said = f"{removed} slice(s) over all phases lie beyond the base, {by}: not counted as LV"
    return masks, (said,) if removed else ()


def _ends(labels_TZHW: np.ndarray, stack: Cine) -> tuple[int, int]:
    """Returns the phases of end diastole and end systole."""
    lv_T = measuring.volume_curve(labels_TZHW, LV_CAVITY, stack).size_T
    return measuring.end_diastole(lv_T, stack.covers_beat), measuring.end_systole(lv_T)


def _cleaned(raw_TZHW: np.ndarray, cine: Cine) -> np.ndarray:
    if cine.plane == PLANES[0]:
        return np.stack([cleaned_stack(*phase) for phase in zip(raw_TZHW, cine.present_TZ, strict=True)])
    return np.stack([cleaned_slice(labels_HW, SHOWN[cine.plane]) for labels_HW in raw_TZHW[:, 0]])[:, None]


def _on_grid(classes_BHW: np.ndarray, number: int, cine: Cine, place: Mapping[str, Any]) -> np.ndarray:
    """Returns the classes of cine `number` on its own grid (T, Z, H, W); 0 in slices that the files do not hold."""
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
    """Resamples a label map to another grid by interpolating each class's share of a pixel, for smooth edges."""
    present = np.unique(labels_HW)
    shares = [
        cv2.resize((labels_HW == k).astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR) for k in present
    ]
    return present[np.argmax(shares, axis=0)].astype(np.uint8)


def expected_dice(outputs: np.ndarray, place: Mapping[str, Any], phases: tuple[int, ...]) -> float:
    """Returns the lowest Dice of the LV cavity over `phases` of the short axis, as the probabilities predict it."""
    count, lowest = len(place["rows"]) - place["mirrored"], 1.0
    for phase in phases:
        rows = [k for k, (number, t, _) in enumerate(place["rows"][:count]) if number == 0 and t == phase]
        pixels = sum(int((outputs["classes"][k] == LV_CAVITY).sum()) for k in rows)
        mass, inside = (float(outputs[name][rows, LV_CAVITY].sum()) for name in ("mass", "inside"))
        lowest = min(lowest, 2 * inside / (mass + pixels) if mass + pixels else 0.0)
    return lowest


def _mirrored_dice(outputs: np.ndarray, place: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns, per mirrored phase, the Dice of the LV cavity between the masks of the plain and the mirrored slices."""
    by_phase: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for k, other in pairs(place):
        plain, mirrored = outputs["classes"][k], outputs["classes"][other][:, ::-1]
        by_phase.setdefault(place["rows"][k][1], []).append((plain == LV_CAVITY, mirrored == LV_CAVITY))
    return {
        f"phase {phase}": dice(np.stack([a for a, _ in found]), np.stack([b for _, b in found]))
        for phase, found in by_phase.items()
    }
