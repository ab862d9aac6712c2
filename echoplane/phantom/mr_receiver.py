"""Receiver of the MR scanner: coil, k-space, noise and what goes wrong there. Axes: T phase, N, M rows and columns."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from echoplane.phantom.mr_planes import Grid
from echoplane.phantom.mr_ranges import MrOpticsRanges
from echoplane.phantom.shapes import Array


@dataclass(frozen=True)
class Receiver:
    """Settings of one series. Without `acquired_mm` the picture is sampled as it is displayed."""

    blur_mm: float
    noise: float
    bias: float
    banding: float
    acquired_mm: tuple[float, float] | None = None
    """Resolution in k-space along rows and columns."""
    roll_off: float = 0.0
    phase_axis: int = 1
    """Axis of phase encoding, along which ghosts and wrap-around lie."""
    ghost: float = 0.0
    """Strength of a ghost of the whole picture, half a field of view away."""
    wrap: float = 0.0
    """Share of the pixels along the phase axis that is folded in from either side."""
    circle: bool = False

    def margin(self, grid: Grid) -> tuple[int, int]:
        """Returns the rows and columns that have to be imaged beyond either edge of the grid, to be folded in."""
        sizes = (grid.rows, grid.columns)
        rows, columns = (int(self.wrap * n) * (axis + 1 == self.phase_axis) for axis, n in enumerate(sizes))
        return rows, columns


def varied_receiver(receiver: Receiver, ranges: MrOpticsRanges, rng: np.random.Generator) -> Receiver:
    """Returns the receiver with what `ranges` holds drawn anew."""
    fine_mm, phase_axis = float(rng.uniform(*ranges.acquired_mm)), int(rng.integers(1, 3))
    coarse_mm = fine_mm * float(rng.uniform(*ranges.coarser_phase))
    ghost, wrap = float(rng.uniform(*ranges.ghost)), float(rng.uniform(*ranges.wrap))
    return replace(
        receiver,
        bias=float(rng.uniform(*ranges.bias)),
        acquired_mm=(coarse_mm, fine_mm) if phase_axis == 1 else (fine_mm, coarse_mm),
        roll_off=float(rng.uniform(*ranges.roll_off)),
        phase_axis=phase_axis,
        ghost=ghost * (rng.random() < ranges.ghost_share),
        wrap=wrap * (rng.random() < ranges.wrap_share),
        circle=bool(rng.random() < ranges.circle_share),
    )


def received(signal_TNM: Array, grid: Grid, receiver: Receiver, rng: np.random.Generator) -> Array:
    """Returns the magnitude picture after coil and receiver. The signal holds `receiver.margin` beyond the grid; fat
    may be negative in it."""
    sigma = receiver.blur_mm / grid.pixel_mm
    shape = signal_TNM.shape[1:]
    blurred = gaussian_filter(signal_TNM, (0, sigma, sigma)) * _coil(shape, receiver.bias, rng)
    if rng.random() < receiver.banding:
        blurred = blurred * _band(shape, rng)
    blurred = folded(blurred, receiver.margin(grid))
    channels = rng.normal(0, receiver.noise, (2, *blurred.shape))
    if receiver.acquired_mm is None:
        return np.hypot(blurred + channels[0], channels[1]).astype(np.float32)
    if receiver.ghost:
        half = blurred.shape[receiver.phase_axis] // 2
        blurred = blurred + np.float32(receiver.ghost) * np.roll(blurred, half, receiver.phase_axis)
    both = (blurred + channels[0].astype(np.float32) + 1j * channels[1].astype(np.float32)).astype(np.complex64)
    magnitude = np.abs(_truncated(both, grid, receiver)).astype(np.float32)
    return magnitude * _disc(magnitude.shape[1:]) if receiver.circle else magnitude


def folded(signal_TNM: Array, margin: tuple[int, int]) -> Array:
    """Returns the picture without its margin, which is added at the opposite edges."""
    for axis, width in enumerate(margin, start=1):
        if width:
            moved = np.moveaxis(signal_TNM, axis, -1)
            inner = moved[..., width:-width].copy()
            inner[..., -width:] += moved[..., :width]
            inner[..., :width] += moved[..., -width:]
            signal_TNM = np.moveaxis(inner, -1, axis)
    return signal_TNM


def _truncated(picture_TNM: NDArray[np.complex64], grid: Grid, receiver: Receiver) -> NDArray[np.complex64]:
    """Returns the picture as its k-space within the acquired resolution gives it, interpolated to the grid."""
    kspace = fft.fft2(picture_TNM)
    for axis, (n, acquired_mm) in enumerate(zip(picture_TNM.shape[1:], receiver.acquired_mm or (), strict=True)):
        share = np.abs(fft.fftfreq(n, grid.pixel_mm)) * 2 * acquired_mm  # 1 at the edge of the acquired k-space
        fall = np.clip((share - 1 + receiver.roll_off) / receiver.roll_off, 0, 1)
        window = np.where(share <= 1, 0.5 + 0.5 * np.cos(np.pi * fall), 0).astype(np.float32)
        kspace = kspace * (window[:, None] if axis == 0 else window)
    return np.asarray(fft.ifft2(kspace), np.complex64)


def _disc(shape: tuple[int, ...]) -> Array:
    """Returns 1 inside the largest circle of the picture, 0 outside."""
    down, across = (np.arange(n) - (n - 1) / 2 for n in shape)
    return (np.hypot(down[:, None], across[None]) < min(shape) / 2).astype(np.float32)


def _coil(shape: tuple[int, ...], bias: float, rng: np.random.Generator) -> Array:
    """Returns a sensitivity that decreases from the chest wall: e to the power of a random plane and bowl."""
    down, across = (np.linspace(-1, 1, n) for n in shape)
    slope = rng.normal(0, 0.5, 2) * bias
    bowl = -0.5 * abs(rng.normal(0, 0.5)) * bias
    log = slope[0] * down[:, None] + slope[1] * across[None] + bowl * (down[:, None] ** 2 + across[None] ** 2)
    return np.exp(log).astype(np.float32)


def _band(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Returns a dark line where the field is off by half a turn per repetition."""
    down, across = (np.linspace(-1, 1, n) for n in shape)
    angle, place, width = rng.uniform(0, np.pi), rng.uniform(-0.9, 0.9), rng.uniform(0.02, 0.06)
    bend = rng.normal(0, 0.3) * (down[:, None] ** 2 - across[None] ** 2)
    along = np.cos(angle) * down[:, None] + np.sin(angle) * across[None] + bend - place
    return (1 - rng.uniform(0.3, 0.8) * np.exp(-((along / width) ** 2))).astype(np.float32)
