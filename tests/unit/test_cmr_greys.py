"""cmr-segmentation: augmentation that imitates other scanners changes grey values, and says what it hides."""

from collections.abc import Callable

import numpy as np
import pytest

from echoplane.tasks.cmr_segmentation import greys, learning, structures
from tests.rings import LV, rings

STILL = learning.Augmentation(
    crop=96, elsewhere=0, shift=0, rotation_degrees=0, scale=0, stretch=0, bend=0, quarter_turns=0, mirrored=0,
    gamma=0, gain=0, bias=0, noise=0, blur=0,
)  # fmt: skip
GREYS = ("curved", "recontrasted", "shading", "coarse", "sharp", "ghost")
SEEDS = range(8)


def sample(size: int = 80) -> np.ndarray:
    labels, cine = rings([[20, 18, 14]] * 2, size=size)
    return np.stack([cine.voxels_TZHW[0, 0], structures.target_of(labels[0, 0], "short-axis")])


def crops(**settings: float) -> list[tuple[np.ndarray, np.ndarray]]:
    config = STILL.model_copy(update=settings)
    return [tuple(learning.augment(sample(), np.random.default_rng(seed), config)) for seed in SEEDS]


@pytest.mark.parametrize("setting", GREYS)
def test_a_change_of_greys_leaves_the_target_and_the_hearts_contrast(setting: str) -> None:
    for (image, target), (plain, kept) in zip(crops(**{setting: 1.0}), crops(), strict=True):
        assert np.array_equal(target, kept)
        assert not np.array_equal(image, plain)
        blood, muscle = (image[kept & 63 == 1 << k].mean() for k in (LV, structures.MYOCARDIUM))
        assert blood > muscle + 20


def test_noise_may_be_rician() -> None:
    """In black, Gaussian noise is clipped to nothing half of the time; the magnitude of a signal is above zero."""
    black = np.zeros((2, 96, 96), np.uint8)
    black[1] = structures.target_of(black[0], "short-axis")
    settings = STILL.model_copy(update={"noise": 20.0})
    shares = [
        np.mean(learning.augment(black, np.random.default_rng(1), config)[0] == 0)
        for config in (settings, settings.model_copy(update={"rician": 1.0}))
    ]
    assert shares[0] > 0.4
    assert shares[1] < 0.1


def test_rician_noise_has_the_mean_of_its_distribution() -> None:
    magnitudes = greys.noisy(np.zeros((200, 200), np.float32), np.random.default_rng(0), 5.0)
    assert magnitudes.mean() == pytest.approx(5 * np.sqrt(np.pi / 2), rel=0.03)


def test_behind_a_black_border_structures_are_unknown_and_background_stays() -> None:
    config = STILL.model_copy(update={"cut": 1.0, "crop": 48})  # so narrow that borders reach the ring
    hidden = 0
    for seed in range(40):
        image, target = learning.augment(sample(), np.random.default_rng(seed), config)
        plain, kept = learning.augment(sample(), np.random.default_rng(seed), config.model_copy(update={"cut": 0.0}))
        outside = (image == 0) & (plain > 0)
        assert outside.any()
        assert np.array_equal(image[~outside], plain[~outside])
        changed = target != kept
        hidden += int(changed.sum())
        assert (target[changed] == structures.unknown_of(kept)).all()
        assert np.array_equal(changed, outside & (kept & 1 == 0))
    assert hidden > 0


class Recorded:
    """A generator that remembers which numbers were drawn from it."""

    def __init__(self, seed: int) -> None:
        self.calls: list[str] = []
        self._rng = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Callable:
        self.calls.append(name)
        return getattr(self._rng, name)


def test_settings_that_are_off_draw_no_random_number() -> None:
    rng = Recorded(0)
    learning.augment(sample(), rng, learning.Augmentation(blur=0, elsewhere=0, quarter_turns=0))
    geometry = ["normal", "random", "random", "normal", "normal", "uniform"]  # matrix, turns, centre, bend
    assert rng.calls == [*geometry, "normal", "normal", "normal", "uniform", "standard_normal"]


def test_a_rising_curve_keeps_the_order_of_greys_and_both_ends() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    curves = [greys.curved(ramp, np.random.default_rng(seed))[0] for seed in range(50)]
    assert all((np.diff(curve) >= 0).all() for curve in curves)
    assert all(curve[0] < 0.05 and curve[-1] > 0.95 for curve in curves)
    assert np.std([curve[128] for curve in curves]) > 0.05


def test_a_lower_resolution_moves_no_edge() -> None:
    row, column = np.mgrid[:96, :96]
    disc = (np.hypot(row - 47.5, column - 47.5) < 20).astype(np.float32)
    for change in (greys.coarsened, greys.sharpened, greys.recontrasted):
        for seed in range(20):
            seen = change(disc, np.random.default_rng(seed))
            middle = (seen * column).sum() / seen.sum()
            assert middle == pytest.approx(47.5, abs=0.3), (change.__name__, seed)


def test_without_resolution_the_high_frequencies_are_gone() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.1, (96, 96)).astype(np.float32)
    kept = [greys.coarsened(noise, np.random.default_rng(seed)).std() / noise.std() for seed in range(20)]
    assert max(kept) < 0.97
    assert min(kept) < 0.6
