"""Pictures that show no view, to learn from: made differently from those of the test (`views_outside`).

Axes: H row, W column."""

from collections.abc import Callable

import cv2
import numpy as np

VESSEL, UPSIDE_DOWN, INVERTED, TILES, NOISE, GREY, BLOBS = range(7)
SHARES = (0.4, 0.2, 0.08, 0.14, 0.06, 0.02, 0.1)


def without_view(heart_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a uint8 picture (H, W) that shows no view: a vessel, the heart upside down, inverted or cut into tiles,
    noise, one grey, or blobs."""
    kinds: dict[int, Callable[[], np.ndarray]] = {
        VESSEL: lambda: vessel(heart_HW.shape, rng),
        UPSIDE_DOWN: lambda: heart_HW[::-1],
        INVERTED: lambda: np.where(heart_HW > 0, 255 - heart_HW, 0),
        TILES: lambda: _tiles(heart_HW, rng),
        NOISE: lambda: rng.integers(0, rng.integers(40, 256), heart_HW.shape),
        GREY: lambda: np.full(heart_HW.shape, rng.integers(0, 256)),
        BLOBS: lambda: 100 + 60 * _smooth(heart_HW.shape, rng, (6, 8)) + _speckle(heart_HW.shape, rng, 0.7) * 20,
    }
    return np.clip(kinds[int(rng.choice(len(SHARES), p=SHARES))](), 0, 255).astype(np.uint8)


def vessel(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Returns tissue as a linear or curved probe shows it, with one or two vessels, along or across.

    A vessel is a smooth profile of grey over the distance from its axis: lumen, inner line, dark media, bright outer
    wall. Tissue has layers along the skin, and the far wall is brighter than the near one."""
    rows, columns = shape
    row_HW, column_HW = np.mgrid[:rows, :columns].astype(np.float32)
    layers_HW = np.repeat(cv2.GaussianBlur(rng.standard_normal((rows, 1)), (1, 0), 0, sigmaY=4), columns, axis=1)
    layers_HW = layers_HW / layers_HW.std() + 0.6 * _smooth(shape, rng, (4, 6))
    db_HW = rng.uniform(-26, -14) + rng.uniform(1, 5) * layers_HW
    for _ in range(rng.integers(1, 3)):
        across = rng.random() < 0.4
        away_HW, below_HW = (_across if across else _along)(row_HW, column_HW, rng)
        wall_db = rng.uniform(-12, -3) + rng.uniform(0, 5) * np.tanh(below_HW)
        wall_db -= rng.uniform(0, 12) * np.abs(_smooth(shape, rng, (3, 5)))
        width = rng.uniform(1, 3)
        lumen_HW = 1 / (1 + np.exp(np.clip(away_HW / 0.6, -30, 30)))
        db_HW = db_HW * (1 - lumen_HW) + rng.uniform(-60, -38) * lumen_HW
        db_HW = np.maximum(db_HW, wall_db - 9 * ((away_HW - width) / width) ** 2)
    power_HW = rng.exponential(size=shape)
    grain = rng.uniform(0.6, 1.6)
    power_HW = cv2.GaussianBlur(power_HW, (0, 0), 1.5 * grain, sigmaY=grain)
    db_HW = db_HW + 10 * np.log10(np.clip(power_HW, 1e-3, None)) * rng.uniform(0.6, 1.5)
    span_db = rng.uniform(40, 60)
    grey_HW = 255 * np.clip((db_HW + span_db - 8) / span_db, 0, 1)
    return grey_HW * _field_of_view(row_HW, column_HW, rng)


def _along(row_HW: np.ndarray, column_HW: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance from the wall of a vessel along the picture, negative inside, and the place below its axis;
    it bends, and widens as a bulb on one side."""
    rows, columns = row_HW.shape
    x_HW = column_HW / columns - 0.5
    axis_HW = rows * (rng.uniform(0.25, 0.75) + rng.uniform(-0.35, 0.35) * x_HW + rng.uniform(-0.3, 0.3) * x_HW**2)
    bulb_HW = 1 + rng.uniform(0, 0.7) / (1 + np.exp(-(x_HW - rng.uniform(-0.3, 0.5)) * rng.choice([-14, 14])))
    half_HW = rows * rng.uniform(0.05, 0.16) * bulb_HW
    return np.abs(row_HW - axis_HW) - half_HW, (row_HW - axis_HW) / half_HW


def _across(row_HW: np.ndarray, column_HW: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same as `_along`, for a vessel across the picture, which is an ellipse."""
    rows, columns = row_HW.shape
    radius = rows * rng.uniform(0.06, 0.22)
    down_HW = (row_HW - rows * rng.uniform(0.25, 0.75)) / rng.uniform(0.75, 1)
    right_HW = column_HW - columns * rng.uniform(0.2, 0.8)
    return np.hypot(down_HW, right_HW) - radius, down_HW / radius


def _field_of_view(row_HW: np.ndarray, column_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the pixels that a probe sees: all, a parallelogram of steered lines, or a sector with a curved edge."""
    rows, columns = row_HW.shape
    kind = rng.integers(3)
    if kind == 0:
        margin = columns * rng.choice([0, rng.uniform(0, 0.2)])
        return (column_HW >= margin) & (column_HW < columns - margin)
    if kind == 1:
        left_HW = column_HW - row_HW * rng.uniform(-0.35, 0.35) * columns / rows / 2
        return (left_HW > 0.1 * columns) & (left_HW < 0.9 * columns)
    near, half_angle = rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.65)
    down_HW = near + (1 - near) * row_HW / rows
    right_HW = (column_HW - columns / 2) / rows * (1 - near)
    depth_HW = np.hypot(down_HW, right_HW)
    return (depth_HW > near) & (depth_HW < 1) & (np.abs(np.arctan2(right_HW, down_HW)) < half_angle)


def _tiles(picture_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture cut into 3 x 4 tiles that change places."""
    rows, columns = picture_HW.shape
    tiles = picture_HW.reshape(3, rows // 3, 4, columns // 4).transpose(0, 2, 1, 3).reshape(12, rows // 3, columns // 4)
    shuffled = tiles[rng.permutation(12)].reshape(3, 4, rows // 3, columns // 4)
    return shuffled.transpose(0, 2, 1, 3).reshape(rows, columns)


def _smooth(shape: tuple[int, int], rng: np.random.Generator, knots: tuple[int, int]) -> np.ndarray:
    """Returns a smooth field (H, W) of deviation about 1."""
    coarse = rng.standard_normal(knots, dtype=np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC))


def _speckle(shape: tuple[int, int], rng: np.random.Generator, sigma: float) -> np.ndarray:
    noise_HW = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), sigma)
    return np.asarray(noise_HW / noise_HW.std())
