"""What a cardiologist should look at before believing the figures: flags, each with a sentence.

The paper's three rules for atria (Bai et al., arXiv 1710.09289), and ours for the ventricles. A flag says that the
answer may be wrong; what was missing from the input is a warning, not a flag.
Axes: T phase, Z slice, H row, W column."""

from dataclasses import dataclass

import numpy as np

from echoplane.tasks.cmr_segmentation.cleaning import SMALL_PIXELS, component_sizes
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY, RV_CAVITY, STRUCTURES

PLAUSIBLE = {
    "lvedv_ml": (30, 450),
    "lvesv_ml": (4, 400),
    "lvef_percent": (5, 85),
    "lvm_g": (30, 450),
    "rvedv_ml": (30, 450),
    "rvef_percent": (5, 85),
    "lvco_l_min": (1, 15),
}
"""Wider than any range of health or common disease: outside of it the masks are to blame, or the spacing."""
LARGEST_STEP = 0.25
"""Of the largest volume, from one phase to the next: with 20 phases or more no ventricle fills so fast."""
MIN_MIRRORED_DICE = 0.85
"""Between the answer and that to the mirrored picture."""
DOUBLED = 2.0
MAX_REMOVED = 0.5
"""Of what was taken for LV cavity, in parts that lie apart: more, and the wrong part may have stayed."""


@dataclass(frozen=True)
class Flag:
    """A stable name, and a sentence for people."""

    name: str
    sentence: str


def ventricle_flags(
    labels_TZHW: np.ndarray, raw_TZHW: np.ndarray, lv_T: np.ndarray, ed: int, es: int, covers_beat: bool
) -> list[Flag]:
    """Of the short axis stack: `raw_TZHW` before cleaning."""
    flags = []
    if not (labels_TZHW[ed] == LV_CAVITY).any():
        return [Flag("no-lv", "No left ventricle was found: this may be no short axis cine of a heart.")]
    if not (labels_TZHW == RV_CAVITY).any():
        flags.append(Flag("no-rv", "No right ventricle was found: its figures are left blank."))
    if ratio := _removed(labels_TZHW, raw_TZHW, (ed, es)):
        flags.append(Flag("components", f"{100 * ratio:.0f} % of what was taken for LV cavity lay apart; removed."))
    for name, phase in (("end diastole", ed), ("end systole", es)):
        if gaps := _gaps((labels_TZHW[phase] == LV_CAVITY).any(axis=(1, 2))):
            flags.append(Flag("gap", f"At {name} {gaps} slice(s) between base and apex have no LV cavity."))
    if not (labels_TZHW[es] == LV_CAVITY).any():
        flags.append(Flag("empty-systole", "At end systole no LV cavity was found at all."))
    if covers_beat and (step := _largest_step(lv_T)) > LARGEST_STEP * max(1, 20 / len(lv_T)):
        flags.append(Flag("jump", f"The LV volume jumps by {100 * step:.0f} % of EDV between two phases."))
    return flags


def plausibility_flags(measures: dict[str, float | None], titles: dict[str, str]) -> list[Flag]:
    flags = []
    for name, (low, high) in PLAUSIBLE.items():
        value = measures.get(name)
        if value is not None and not low <= value <= high:
            flags.append(Flag("implausible", f"{titles[name]} is {value:.1f}; {low} to {high} is plausible."))
    return flags


def agreement_flags(mirrored_dice: dict[str, float | None], confidence: float, least: float) -> list[Flag]:
    """Where the network contradicts itself, or is unsure."""
    flags = [
        Flag("mirror", f"The mirrored picture at {name} gives another LV cavity (Dice {value:.2f}).")
        for name, value in mirrored_dice.items()
        if value is not None and value < MIN_MIRRORED_DICE
    ]
    if confidence < least:
        flags.append(
            Flag(
                "unsure", f"The network is unsure of the LV cavity: expected Dice {confidence:.2f}, under {least:.2f}."
            )
        )
    return flags


def atrium_flags(plane: str, raw_THW: np.ndarray, structures: tuple[int, ...]) -> list[Flag]:
    """The paper's rules: an atrium vanishes, has two parts over 10 px, or its area doubles or halves between phases."""
    flags = []
    for structure in structures[1:]:
        title = f"{STRUCTURES[structure].title} in the {plane} plane"
        areas_T = (raw_THW == structure).sum(axis=(1, 2))
        if (areas_T == 0).any():
            flags.append(Flag("vanished", f"The {title} vanishes in {int((areas_T == 0).sum())} phase(s)."))
            continue
        parts = max(len([n for n in component_sizes(m == structure) if n > SMALL_PIXELS]) for m in raw_THW)
        if parts > 1:
            flags.append(Flag("parts", f"The {title} has {parts} parts over {SMALL_PIXELS} pixels."))
        ratio = float(np.max(np.maximum(areas_T / np.roll(areas_T, 1), np.roll(areas_T, 1) / areas_T)))
        if ratio > DOUBLED:
            flags.append(Flag("doubled", f"The area of the {title} changes {ratio:.1f} times between two phases."))
    return flags


def _removed(labels_TZHW: np.ndarray, raw_TZHW: np.ndarray, phases: tuple[int, ...]) -> float:
    """Share of the raw LV cavity that cleaning took away, where it is over MAX_REMOVED; else 0."""
    raw = sum(int((raw_TZHW[t] == LV_CAVITY).sum()) for t in phases)
    kept = sum(int(((raw_TZHW[t] == LV_CAVITY) & (labels_TZHW[t] == LV_CAVITY)).sum()) for t in phases)
    share = 1 - kept / raw if raw else 0.0
    return share if share > MAX_REMOVED else 0.0


def _gaps(there_Z: np.ndarray) -> int:
    found = np.flatnonzero(there_Z)
    return int(found[-1] - found[0] + 1 - len(found)) if len(found) else 0


def _largest_step(lv_T: np.ndarray) -> float:
    """Largest change between neighbouring phases against the largest volume."""
    return float(np.abs(np.diff(lv_T)).max() / max(lv_T.max(), 1e-9))
