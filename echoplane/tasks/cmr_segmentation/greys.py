"""Random changes of a training crop's grey values that imitate other scanners: contrast, resolution, ghosts, shading.

Grey values are float32, 0 is black and 1 white; a function may return values beyond. Edges stay where they are.
Axes: H row, W column."""

import cv2
import numpy as np
from scipy import fft

LEVELS = 256
"""Entries of the table of a grey curve."""
KNOTS = 5
"""Inner points of a rising grey curve: enough for muscle, blood and fat to get closer or further apart on their own."""
LEAST_RISE = 0.25
"""Smallest rise between two knots before scaling, of at most 1, so that a rising curve merges no two tissues."""
KERNELS = 4
"""Random kernels of the filter that changes the contrast of tissues."""
MOST_FILTERED = 0.5
"""Largest weight of that filter's result; the rest is the crop's own grey values."""
BENT = 0.06
"""Standard deviation of the inner points of a grey curve that need not rise."""
COARSEST = 0.45
"""Smallest share of the resolution that is kept along an axis; at pixels of 1.4 mm, 0.45 means 3.1 mm."""
GHOST = (0.04, 0.25)
"""Weights of a ghost or of what is wrapped around."""
MOST_CUT = 0.2
"""Largest share of the crop's side that a black border covers."""


def curved(grey_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns grey values after a random rising curve through several knots."""
    at = np.concatenate([[0], np.sort(rng.uniform(0.05, 0.95, KNOTS)), [1]])
    rises = rng.uniform(LEAST_RISE, 1, KNOTS + 1) * np.diff(at)
    values = np.concatenate([[0], np.cumsum(rises)]) / rises.sum()
    return _through(np.interp(np.linspace(0, 1, LEVELS), at, values), grey_HW)


def recontrasted(grey_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns grey values with a random contrast of tissues: a small random filter, or a curve that may fall."""
    if rng.random() < 0.5:
        at = np.linspace(0, 1, KNOTS + 2)
        values = at + np.concatenate([[0], rng.normal(0, BENT, KNOTS), [0]])
        return _through(np.interp(np.linspace(0, 1, LEVELS), at, values), grey_HW)
    filtered = _filtered(grey_HW, rng)
    weight = np.float32(rng.uniform(0.1, MOST_FILTERED))
    return np.asarray(np.clip(grey_HW + weight * (filtered - grey_HW), 0, 1))


def _through(table: np.ndarray, grey_HW: np.ndarray) -> np.ndarray:
    """Returns grey values looked up in a table whose corners are rounded."""
    smooth = cv2.GaussianBlur(table.astype(np.float32)[None], (0, 0), LEVELS / 40, borderType=cv2.BORDER_REPLICATE)[0]
    entries = np.clip(grey_HW * (LEVELS - 1) + np.float32(0.5), 0, LEVELS - 1).astype(np.uint8)
    return cv2.LUT(entries, np.clip(smooth, 0, 1))


def _filtered(grey_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of rectified random filters, with the mean and deviation of the given grey values.

    Kernels are symmetric about their middle, so that no edge moves. A result that darkens what was bright is inverted.
    """
    kernels = rng.normal(0, 1, (KERNELS, 3, 3)).astype(np.float32)
    weights, offsets = rng.normal(0, 1, (2, KERNELS)).astype(np.float32)
    total = np.zeros_like(grey_HW)
    for kernel, weight, offset in zip(kernels, weights, offsets, strict=True):
        response = cv2.filter2D(grey_HW, -1, (kernel + kernel[::-1, ::-1]) / 2)
        total += weight * np.maximum(response + offset, 0)
    mean, deviation = cv2.meanStdDev(grey_HW)
    own_mean, own_deviation = cv2.meanStdDev(total)
    total = (total - np.float32(own_mean[0, 0])) / np.float32(own_deviation[0, 0] + 1e-6)
    if float((total * grey_HW).sum()) < 0:
        total = -total
    return np.asarray(np.float32(mean[0, 0]) + np.float32(deviation[0, 0]) * total, np.float32)


def shaded(grey_HW: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Returns grey values under a smooth random field whose logarithm has at most this standard deviation."""
    knots = int(rng.integers(3, 6))
    log = rng.normal(0, rng.uniform(0, deviation), (knots, knots)).astype(np.float32)
    return np.asarray(grey_HW * cv2.exp(cv2.resize(log, grey_HW.shape[::-1], interpolation=cv2.INTER_CUBIC)))


def coarsened(grey_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the crop at a lower resolution, different along rows and columns, on the same pixels.

    Half of them lose their high spatial frequencies, as zero-filled scans do, and ring at edges; the others are
    averaged to larger pixels and interpolated back.
    """
    rows, columns = grey_HW.shape
    first = rng.uniform(COARSEST, 0.95)
    kept = np.clip((first, first * rng.uniform(0.7, 1.3)), COARSEST, 1)
    if rng.random() < 0.5:
        spectrum = fft.rfft2(grey_HW)
        high = round(kept[0] * rows / 2)
        spectrum[high : rows - high] = 0
        spectrum[:, round(kept[1] * columns / 2) :] = 0
        return np.asarray(np.maximum(fft.irfft2(spectrum, s=grey_HW.shape), 0), np.float32)
    small = cv2.resize(grey_HW, (round(kept[1] * columns), round(kept[0] * rows)), interpolation=cv2.INTER_AREA)
    back = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))]
    return np.maximum(cv2.resize(small, (columns, rows), interpolation=back), 0)


def sharpened(grey_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the crop with steeper edges that overshoot, as filters of scanners make them."""
    smooth = cv2.GaussianBlur(grey_HW, (0, 0), rng.uniform(0.8, 2.0))
    return np.maximum(grey_HW + np.float32(rng.uniform(0.2, 1.2)) * (grey_HW - smooth), 0)


def ghosted(grey_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the crop with a faint copy of itself, shifted along one axis: a ghost, or an edge wrapped around."""
    axis = int(rng.integers(2))
    side = grey_HW.shape[axis]
    copy = np.roll(grey_HW, int(rng.integers(side // 5, side - side // 5)), axis)
    return np.asarray(grey_HW + np.float32(rng.uniform(*GHOST)) * copy)


def noisy(grey_HW: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Returns the magnitude of a complex signal with noise of this deviation in each channel: Rician."""
    noise_HW = np.float32(deviation) * rng.standard_normal(grey_HW.shape, np.float32)
    # the second channel is the first one from elsewhere, which halves the time: no pixel has the same noise in both
    return cv2.magnitude(grey_HW + noise_HW, noise_HW[::-1, ::-1].copy())


def border(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Returns a mask (H, W) of a border along one or two sides, outside of the field of view."""
    outside_HW = np.zeros(shape, bool)
    for axis in rng.permutation(2)[: int(rng.integers(1, 3))]:
        width = int(rng.uniform(0.02, MOST_CUT) * shape[axis])
        sides = np.moveaxis(outside_HW, int(axis), 0)
        sides[slice(0, width) if rng.random() < 0.5 else slice(shape[axis] - width, None)] = True
    return outside_HW
