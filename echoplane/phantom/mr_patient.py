"""Synthetic patients of cine MR: the heart in its chest, and the scanner that images it."""

from dataclasses import dataclass, replace

import numpy as np

from echoplane.phantom.chest import Chest, make_chest
from echoplane.phantom.heart import Heart, make_heart
from echoplane.phantom.mr_hearts import ellipse_of, varied_chest, varied_heart
from echoplane.phantom.mr_ranges import USUAL_MR, Field, MrRanges
from echoplane.phantom.strokes import with_equal_strokes

FIELDS = {
    "north": Field((0.26, 0.42), (0.9, 1.3), (0.5, 1.1), (0.02, 0.05), 0.7, 0.2, 0.25),
    "east": Field((0.20, 0.36), (1.0, 1.6), (0.3, 0.9), (0.01, 0.04), 1.1, 0.3, 0.35),
    "south": Field((0.34, 0.52), (0.7, 1.1), (0.8, 1.5), (0.03, 0.08), 0.5, 0.2, 0.2),
    "west": Field((0.18, 0.30), (1.2, 1.9), (0.7, 1.3), (0.02, 0.07), 1.4, 0.5, 0.45),
}
UNSEEN_FIELD = "west"
"""Scanner that is kept out of training, to measure the loss of accuracy on an unseen scanner."""
THICK_SHARE = 0.25
"""Share of hearts with thick walls that eject most of their blood."""


@dataclass(frozen=True)
class MrPatient:
    """Heart in its chest, on one scanner."""

    seed: int
    heart: Heart
    chest: Chest
    field: str
    ranges: MrRanges = USUAL_MR
    ellipse: tuple[float, float] = (1.0, 0.0)
    """Stretch of the body across the heart's long axis, shrunk by the same factor across that: volumes stay. Azimuth of
    the stretch in radians."""

    @property
    def scanner(self) -> Field:
        return self.ranges.contrast.scanner if self.ranges.contrast else FIELDS[self.field]


def make_mr_patient(seed: int, field: str | None = None, ranges: MrRanges = USUAL_MR) -> MrPatient:
    """Returns the patient of a seed. Hearts vary more than the echo phantom's: dilated and small ones, and a share of
    thick ones that nearly empty themselves. Both ventricles eject the same volume.

    `ranges` may draw anatomy, contrast, optics and geometry more widely. Raises ValueError if they have a contrast of
    their own and a field is named.
    """
    if ranges.contrast and field:
        raise ValueError(f"ranges with a contrast of their own take no field, got {field}")
    rng = np.random.default_rng([seed, 41])
    heart = make_heart(rng)
    thick = rng.random() < THICK_SHARE
    grown = float(np.clip(rng.lognormal(-0.1 if thick else 0, 0.16), 0.75, 1.5))
    pumped = float(rng.uniform(0.58, 0.82)) if thick else float(np.clip(heart.ef + rng.normal(0, 0.06), 0.12, 0.75))
    heart = replace(
        heart,
        lv_radius_mm=heart.lv_radius_mm * grown,
        lv_length_mm=heart.lv_length_mm * grown**0.4,
        wall_mm=float(rng.uniform(11, 21)) if thick else float(np.clip(rng.lognormal(np.log(9.5), 0.25), 5, 20)),
        ef=pumped,
        rv_size=float(rng.uniform(0.8, 1.25)),
        seed=int(rng.integers(2**31)),
    )
    seen = [name for name in FIELDS if name != UNSEEN_FIELD]
    chest, ellipse = make_chest(heart, rng), (1.0, 0.0)
    field = ranges.vendor or field or str(rng.choice(seen))
    if ranges.heart:
        own = np.random.default_rng([seed, 46])
        heart = varied_heart(heart, ranges.heart, own)
        chest, ellipse = varied_chest(make_chest(heart, own), ranges.heart, own), ellipse_of(ranges.heart, own)
    return MrPatient(seed, with_equal_strokes(heart), chest, field, ranges, ellipse)
