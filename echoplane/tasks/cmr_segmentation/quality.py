"""Quality control flags: what a cardiologist should check before relying on the measures, each with a sentence.

The three rules for the atria are the paper's (Bai et al., arXiv 1710.09289), those for the ventricles are our own. A
flag says that the result may be wrong; data missing from the input are a warning, not a flag.
Axes: T phase, Z slice, H row, W column."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from echoplane.study.cine import Cine
from echoplane.tasks.cmr_segmentation.cleaning import SMALL_PIXELS, component_sizes
from echoplane.tasks.cmr_segmentation.structures import (
    LEFT_ATRIUM,
    LV_CAVITY,
    RIGHT_ATRIUM,
    RV_CAVITY,
    STRUCTURES,
)

PLAUSIBLE = {
    "lvedv_ml": (30, 1000),
    "lvesv_ml": (4, 950),
    "lvef_percent": (5, 85),
    "lvm_g": (30, 800),
    "rvedv_ml": (30, 1000),
    "rvef_percent": (5, 85),
    "lvco_l_min": (1, 20),
}
"""Plausible range of measures, wider than that of real hearts: a value outside of it means that the masks or the
spacing are wrong. A large heart alone is no error."""
LV_MEASURES = ("lvedv_ml", "lvesv_ml", "lvsv_ml", "lvef_percent", "lvco_l_min", "lvm_g")
RV_MEASURES = ("rvedv_ml", "rvesv_ml", "rvsv_ml", "rvef_percent")
SYSTOLIC_MEASURES = ("lvesv_ml", "lvsv_ml", "lvef_percent", "lvco_l_min")
CONCERNED = {
    "no-lv": (*LV_MEASURES, *RV_MEASURES),
    "no-rv": RV_MEASURES,
    "empty-systole": SYSTOLIC_MEASURES,
    "basal-growth": SYSTOLIC_MEASURES,
    "missing-slices": (*LV_MEASURES, *RV_MEASURES),
    "repeated-slice": (*LV_MEASURES, *RV_MEASURES),
    "base-cut": (*LV_MEASURES, *RV_MEASURES),
    "stroke-volumes": ("lvsv_ml", "lvef_percent", "lvco_l_min", "rvsv_ml", "rvef_percent"),
}
"""Measures that each flag concerns, by the flag's name; flags not listed concern those of the left ventricle."""
ATRIAL_MEASURES = {LEFT_ATRIUM: ("lav_max_ml", "lav_min_ml"), RIGHT_ATRIUM: ("rav_max_ml", "rav_min_ml")}
MAX_STROKE_DIFFERENCE = 0.6
"""Maximum difference of the stroke volumes of both ventricles, as a share of the larger one."""
LARGEST_STEP = 0.25
"""Maximum change from one phase to the next, as a share of the largest volume: with 20 phases or more, no ventricle
fills faster."""
MIN_MIRRORED_DICE = 0.85
"""Minimum Dice between the masks of the plain and the mirrored picture."""
DOUBLED = 2.0
MAX_REMOVED = 0.5
"""Maximum share of the raw LV cavity that the clean-up may remove; above it, the wrong component may have been kept."""


@dataclass(frozen=True)
class Flag:
    """Quality control flag: a stable name, and a sentence for the reader."""

    name: str
    sentence: str
    concerns: tuple[str, ...] = ()
    """Names of the measures that may be wrong, if CONCERNED does not list them for this flag."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that may be wrong."""
        return self.concerns or CONCERNED.get(self.name, LV_MEASURES)


def ventricle_flags(labels_TZHW: np.ndarray, lv_T: np.ndarray, ed: int, es: int, stack: Cine) -> list[Flag]:
    """Returns the flags of the ventricles in a short axis stack."""
    flags = []
    if not (labels_TZHW[ed] == LV_CAVITY).any():
        return [Flag("no-lv", "No left ventricle was found: this may be no short axis cine of a heart.")]
    if not (labels_TZHW == RV_CAVITY).any():
        flags.append(Flag("no-rv", "No right ventricle was found: its figures are left blank."))
    for name, phase in (("end diastole", ed), ("end systole", es)):
        there_Z = (labels_TZHW[phase] == LV_CAVITY).any(axis=(1, 2))
        if gaps := _gaps(there_Z[stack.present_TZ[phase]]):
            flags.append(Flag("gap", f"At {name} {gaps} slice(s) between base and apex have no LV cavity."))
    if not (labels_TZHW[es] == LV_CAVITY).any():
        flags.append(Flag("empty-systole", "At end systole no LV cavity was found at all."))
    if stack.covers_beat and (step := _largest_step(lv_T)) > LARGEST_STEP * max(1, 20 / len(lv_T)):
        flags.append(Flag("jump", f"The LV volume jumps by {100 * step:.0f} % of EDV between two phases."))
    return flags


def removed_flags(labels_TZHW: np.ndarray, raw_TZHW: np.ndarray, phases: tuple[int, ...]) -> list[Flag]:
    """Flags a clean-up that removed more than MAX_REMOVED of the raw LV cavity at `phases`."""
    raw = sum(int((raw_TZHW[t] == LV_CAVITY).sum()) for t in phases)
    kept = sum(int(((raw_TZHW[t] == LV_CAVITY) & (labels_TZHW[t] == LV_CAVITY)).sum()) for t in phases)
    share = 1 - kept / raw if kept else 0.0  # without a cavity, `no-lv` says more
    if share <= MAX_REMOVED:
        return []
    return [Flag("components", f"{100 * share:.0f} % of what was taken for LV cavity lay apart; removed.")]


def stroke_volume_flags(measures: Mapping[str, float | None]) -> list[Flag]:
    """Flags ventricles whose stroke volumes differ by more than a leaking valve or a shunt usually explains."""
    left, right = measures.get("lvsv_ml"), measures.get("rvsv_ml")
    if left is None or right is None or max(left, right) <= 0:
        return []
    if abs(left - right) <= MAX_STROKE_DIFFERENCE * max(left, right):
        return []
    sentence = f"The stroke volumes are {left:.0f} mL left and {right:.0f} mL right; without a leak they are equal."
    return [Flag("stroke-volumes", sentence)]


def plausibility_flags(measures: Mapping[str, float | None], titles: dict[str, str]) -> list[Flag]:
    flags = []
    for name, (low, high) in PLAUSIBLE.items():
        value = measures.get(name)
        if value is not None and not low <= value <= high:
            sentence = f"{titles[name]} is {value:.1f}; {low} to {high} is plausible."
            flags.append(Flag("implausible", sentence, (name,)))
    return flags


def agreement_flags(mirrored_dice: dict[str, float | None], confidence: float, least: float) -> list[Flag]:
    """Flags masks that differ from those of the mirrored picture, and a `confidence` under `least`."""
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
    """Flags an atrium that vanishes, has two parts over 10 px, or doubles or halves its area between two phases.

    These are the paper's rules.
    """
    flags = []
    for structure in structures[1:]:
        title, concerns = f"{STRUCTURES[structure].title} in the {plane} plane", ATRIAL_MEASURES[structure]
        areas_T = (raw_THW == structure).sum(axis=(1, 2))
        if (areas_T == 0).any():
            flags.append(Flag("vanished", f"The {title} vanishes in {int((areas_T == 0).sum())} phase(s).", concerns))
            continue
        parts = max(len([n for n in component_sizes(m == structure) if n > SMALL_PIXELS]) for m in raw_THW)
        if parts > 1:
            flags.append(Flag("parts", f"The {title} has {parts} parts over {SMALL_PIXELS} pixels.", concerns))
        ratio = float(np.max(np.maximum(areas_T / np.roll(areas_T, 1), np.roll(areas_T, 1) / areas_T)))
        if ratio > DOUBLED:
            sentence = f"The area of the {title} changes {ratio:.1f} times between two phases."
            flags.append(Flag("doubled", sentence, concerns))
    return flags


def _gaps(there_Z: np.ndarray) -> int:
    found = np.flatnonzero(there_Z)
    return int(found[-1] - found[0] + 1 - len(found)) if len(found) else 0


def _largest_step(lv_T: np.ndarray) -> float:
    """Returns the largest change between neighbouring phases, as a share of the largest volume."""
    return float(np.abs(np.diff(lv_T)).max() / max(lv_T.max(), 1e-9))
