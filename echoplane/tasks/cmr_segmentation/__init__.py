"""Segmentation of cine MR (Bai et al., arXiv 1710.09289): a study's cines in, masks, measures and flags out.

This half is numpy alone and is the only preprocessing there is, for training and serving. Rows of a batch are slices:
of the short axis stack all phases and slices that the files hold, then the long axis cines, then the mirrored copies
by which the network is compared with itself. Axes: B row of the batch, T phase, Z slice, H row, W column, K class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from echoplane.errors import UnusableStudy
from echoplane.study.cine import Cine, check_short_axis, display_turn, turned, turned_back
from echoplane.study.nifti import write_nifti
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import measures as measuring
from echoplane.tasks.cmr_segmentation.cleaning import cleaned_slice, cleaned_stack
from echoplane.tasks.cmr_segmentation.overlap import dice
from echoplane.tasks.cmr_segmentation.quality import (
    Flag,
    agreement_flags,
    atrium_flags,
    plausibility_flags,
    ventricle_flags,
)
from echoplane.tasks.cmr_segmentation.structures import CLASSES, LV_CAVITY, PLANES, SHOWN, STRUCTURES
from echoplane.tasks.task import Label, Prepared, Result, Rows, Thresholds

NAME = "cmr-segmentation"
SYSTOLE = 0.35
"""Where in the beat the second mirrored phase lies: near end systole."""
MIRRORED = "mirrored"


class Preprocessing(BaseModel):
    """How a cine becomes the network's input. The paper: 1st to 99th percentile to [0, 1], no resampling."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    percentiles: tuple[float, float] = (1.0, 99.0)
    """Of a cine's values; they become black and white."""
    pixel_mm: float = Field(default=1.4, gt=0)
    """To what pixels are resampled, but only where theirs are outside `pixel_range_mm`."""
    pixel_range_mm: tuple[float, float] = (1.0, 2.0)
    """Pixels that the network takes as they are."""
    largest_side: int = Field(default=384, multiple_of=16)
    """Slices larger than this are reduced, whatever their pixels."""


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
        names = {plane: "mask.nii.gz" if plane == PLANES[0] else f"mask-{plane}.nii.gz" for plane in PLANES}
        return {names[cine.plane]: write_nifti(self.masks[cine.plane], cine) for cine in study.cines}


def rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def labels() -> tuple[Label, ...]:
    """The classes of a mask, in the order of the network's outputs."""
    return tuple(Label(s.name, s.title, s.code, "DCM" if s.value == 0 else "SCT", s.meaning) for s in STRUCTURES)


def preprocess(study: Study, config: Preprocessing) -> Prepared:
    """Every slice as uint8 (row of the batch, row, column); UnusableStudy where function can't be measured."""
    cines = study.cines
    if not cines or cines[0].plane != PLANES[0]:
        raise UnusableStudy("there is no short axis cine in the study. Send a cine MR series, NIfTI or DICOM.")
    check_short_axis(cines[0])
    parts, rows = [], []
    for number, cine in enumerate(cines):
        slices_BHW, found = _slices(cine, config)
        parts.append(slices_BHW)
        rows += [(number, t, z) for t, z in found]
    probes = [k for k, (number, t, _) in enumerate(rows) if number == 0 and t in mirrored_phases(cines[0].phases)]
    side = tuple(-(-max(part.shape[axis] for part in parts) // 16) * 16 for axis in (1, 2))
    batch = np.concatenate([_padded(part, side) for part in parts])
    mirrored = batch[probes][:, :, ::-1]
    place = {
        "rows": rows + [rows[k] for k in probes],
        "planes": [cines[number].plane for number, _, _ in rows] + [PLANES[0]] * len(probes),
        "mirrored": len(probes),
        "sides": [part.shape[1:] for part in parts],
    }
    return Prepared(np.concatenate([batch, mirrored]), place, tuple(w for cine in cines for w in cine.warnings))


def mirrored_phases(phases: int) -> tuple[int, int]:
    """The phases that are also shown mirrored: the first, and one near end systole (of two, the other)."""
    return 0, max(1, round(SYSTOLE * phases))


def _slices(cine: Cine, config: Preprocessing) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The slices that the files hold, (B, H, W) uint8, as readers see them; and which (phase, slice) each is."""
    found = [(int(t), int(z)) for t, z in np.argwhere(cine.present_TZ)]
    low, high = grey_range(cine, config.percentiles)
    turn = _turn(cine)
    size = network_size(cine, config)
    out = np.empty((len(found), *size), np.uint8)
    for k, (t, z) in enumerate(found):
        slice_HW = turned(cine.voxels_TZHW[t, z], turn)
        grey = cv2.convertScaleAbs(
            np.clip(slice_HW, low, high).astype(np.float32), alpha=255 / (high - low), beta=-low * 255 / (high - low)
        )
        out[k] = grey if grey.shape == size else cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA)
    return out, found


def grey_range(cine: Cine, percentiles: tuple[float, float]) -> tuple[float, float]:
    """The values that become black and white, from at most two million voxels of the slices that are there."""
    values = cine.voxels_TZHW[cine.present_TZ].ravel()
    low, high = np.percentile(values[:: max(1, values.size // 2_000_000)], percentiles)
    return float(low), float(max(high, low + 1e-6))


def _turn(cine: Cine) -> tuple[bool, bool, bool]:
    return display_turn(cine.affine, cine.plane)


def network_size(cine: Cine, config: Preprocessing) -> tuple[int, int]:
    """Rows and columns that the network sees of one slice, before padding."""
    rows, columns = turned(np.empty(cine.voxels_TZHW.shape[2:], bool), _turn(cine)).shape
    scale_rows = scale_columns = 1.0
    if cine.spacing_mm:
        spacing = cine.spacing_mm[::-1] if _turn(cine)[0] else cine.spacing_mm
        low, high = config.pixel_range_mm
        if not (low <= min(spacing) and max(spacing) <= high):
            scale_rows, scale_columns = spacing[0] / config.pixel_mm, spacing[1] / config.pixel_mm
    shrink = min(1.0, config.largest_side / max(rows * scale_rows, columns * scale_columns))
    return max(16, round(rows * scale_rows * shrink)), max(16, round(columns * scale_columns * shrink))


def _padded(slices_BHW: np.ndarray, side: tuple[int, ...]) -> np.ndarray:
    """With black below and to the right."""
    _, rows, columns = slices_BHW.shape
    return np.pad(slices_BHW, ((0, 0), (0, side[0] - rows), (0, side[1] - columns)))


def condense(output: np.ndarray, place: Mapping[str, Any], first: int) -> np.ndarray:
    """What `interpret` needs of rows `first` and on: a record a row, for probabilities take a hundred times the memory.

    It holds `classes` (row, column) and, for each class, `mass` (the sum of its probability) and `inside` (that sum
    over the pixels of the class): 2 inside / (mass + pixels) is the Dice that the network expects of itself.
    """
    batch, _, rows, columns = output.shape
    record = np.dtype([("classes", "u1", (rows, columns)), ("mass", "f4", CLASSES), ("inside", "f4", CLASSES)])
    condensed = np.zeros(batch, record)
    for k in range(batch):
        shown = SHOWN[place["planes"][first + k]]
        logits_KHW = output[k, list(shown)]
        highest = logits_KHW.argmax(axis=0)
        p_KHW = np.exp(logits_KHW - logits_KHW.max(axis=0))
        p_KHW /= p_KHW.sum(axis=0)
        condensed["classes"][k] = np.array(shown, np.uint8)[highest]
        condensed["mass"][k, list(shown)] = p_KHW.sum(axis=(1, 2))
        condensed["inside"][k, list(shown)] = [p[highest == c].sum() for c, p in enumerate(p_KHW)]
    return condensed


def interpret(outputs: np.ndarray, study: Study, place: Mapping[str, Any], thresholds: Thresholds) -> Segmentation:
    """Masks on the input's grid, measures and flags from the condensed outputs."""
    raw: dict[str, np.ndarray] = {
        cine.plane: _on_grid(outputs["classes"], number, cine, place) for number, cine in enumerate(study.cines)
    }
    stack, raw_TZHW = study.cines[0], raw[PLANES[0]]
    masks: dict[str, np.ndarray] = {PLANES[0]: np.stack([cleaned_stack(labels_ZHW) for labels_ZHW in raw_TZHW])}
    for cine in study.cines[1:]:
        shown = SHOWN[cine.plane]
        cleaned = [cleaned_slice(labels_HW, shown) for labels_HW in raw[cine.plane][:, 0]]
        masks[cine.plane] = np.stack(cleaned)[:, None]
    return _measured(outputs, study, place, thresholds, raw, masks, stack)


def _measured(
    outputs: np.ndarray,
    study: Study,
    place: Mapping[str, Any],
    thresholds: Thresholds,
    raw: dict[str, np.ndarray],
    masks: dict[str, np.ndarray],
    stack: Cine,
) -> Segmentation:
    labels_TZHW = masks[PLANES[0]]
    curves = {s.name: measuring.volume_curve(labels_TZHW, s.value, stack) for s in STRUCTURES[1:4]}
    lv_T = curves["lv-cavity"].size_T
    ed, es = measuring.end_diastole(lv_T, stack.covers_beat), measuring.end_systole(lv_T)
    by_structure = {
        (cine.plane, k): masks[cine.plane][:, 0] == k for cine in study.cines[1:] for k in SHOWN[cine.plane][1:]
    }
    found = measuring.ventricles(labels_TZHW, stack, ed, es)
    found |= measuring.atria(by_structure, {cine.plane: cine for cine in study.cines})
    expected = expected_dice(outputs, place, (ed, es))
    flags = ventricle_flags(labels_TZHW, raw[PLANES[0]], lv_T, ed, es, stack.covers_beat)
    flags += plausibility_flags(found, measuring.HEADERS)
    flags += agreement_flags(_mirrored_dice(outputs, place), expected, thresholds.abstain_below)
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
    return tuple(said)


def _on_grid(classes_BHW: np.ndarray, number: int, cine: Cine, place: Mapping[str, Any]) -> np.ndarray:
    """The classes of cine `number` on its own grid (T, Z, H, W); 0 where the files hold no slice."""
    labels_TZHW = np.zeros(cine.voxels_TZHW.shape, np.uint8)
    rows, columns = place["sides"][number]
    turn = _turn(cine)
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
    count = len(place["rows"]) - place["mirrored"]
    row_of = {tuple(row): k for k, row in enumerate(place["rows"][:count])}
    pairs: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for k in range(count, len(place["rows"])):
        plain, mirrored = outputs["classes"][row_of[tuple(place["rows"][k])]], outputs["classes"][k][:, ::-1]
        pairs.setdefault(place["rows"][k][1], []).append((plain == LV_CAVITY, mirrored == LV_CAVITY))
    return {
        f"phase {phase}": dice(np.stack([a for a, _ in found]), np.stack([b for _, b in found]))
        for phase, found in pairs.items()
    }


def summary(rows: Rows) -> dict[str, float]:
    """Means over studies of what each row holds (Dice by structure and phase, errors of measures); NaN is left out."""
    figures = {}
    for name, column in rows.items():
        if name.startswith(("dice/", "distance_mm/", "hausdorff_mm/")) and np.isfinite(column).any():
            figures[name] = float(np.nanmean(column))
        if name.startswith("error/") and np.isfinite(column).any():
            figures[f"bias/{name[6:]}"] = float(np.nanmean(column))
            figures[f"mae/{name[6:]}"] = float(np.nanmean(np.abs(column)))
    return figures | {"flagged": float(np.mean(rows["abstained"]))}


def example(seed: int) -> Study:
    """A bright cavity in a dark ring that beats, on noise: 2 phases of 3 slices, 64 x 64 pixels of 1.5 mm."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:64, :64]
    voxels_TZHW = rng.integers(40, 90, (2, 3, 64, 64))
    for t in range(2):
        for z in range(3):
            distance = np.hypot(row - 32, column - 32 - seed % 7)
            radius = 14 - 4 * t - 2 * z
            voxels_TZHW[t, z][distance < radius + 6] = 60
            voxels_TZHW[t, z][distance < radius] = 210
    cine = Cine("short-axis", voxels_TZHW.astype(np.uint8), (1.5, 1.5), 10.0, covers_beat=False)
    return Study((), (cine,))
