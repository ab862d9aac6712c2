"""Corrupted copies of a network's input, as scanners, settings and exports corrupt it.

Each kind takes uint8 (..., row, column), a severity from 0 to 1, and a generator of random numbers.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np

Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def _noise(images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    return _clipped(images + 80 * np.float32(severity) * rng.standard_normal(images.shape, np.float32))


def _gain(images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Brightens or darkens by up to a factor of 4."""
    return _clipped(images * np.float32(4 ** (severity * rng.choice((-1, 1)))))


def _blur(images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    side = 3 + 2 * round(4 * severity)
    return _each(images, lambda image: cv2.blur(image, (side, side)))


def _contrast(images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    mean = np.float32(images.mean())
    return _clipped(mean + (images - mean) * np.float32(1 - 0.9 * severity))


def _shadow(images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Blackens a band of columns, up to 70 % of the width, as behind a rib."""
    columns = images.shape[-1]
    width = round(0.7 * severity * columns)
    first = int(rng.integers(0, columns - width + 1))
    shadowed = images.copy()
    shadowed[..., first : first + width] = 0
    return shadowed


def _resolution(images: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    rows, columns = images.shape[-2:]
    factor = 1 + 7 * severity
    size = (max(1, round(columns / factor)), max(1, round(rows / factor)))
    return _each(images, lambda image: cv2.resize(cv2.resize(image, size), (columns, rows)))


KINDS: Mapping[str, Corruption] = {
    "noise": _noise,
    "gain": _gain,
    "blur": _blur,
    "contrast": _contrast,
    "shadow": _shadow,
    "resolution": _resolution,
}


def _each(images: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    flat = images.reshape(-1, *images.shape[-2:])
    return np.stack([change(image) for image in flat]).reshape(images.shape)


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
