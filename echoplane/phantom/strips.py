"""Pictures over time: spectra of pulsed and continuous wave Doppler, and M-mode.

A spectrum shows the amount of blood at each speed: pulsed Doppler a narrow band around the speed at one position,
continuous Doppler all speeds along the beam up to that of a jet (Quinones 2002, ASE). M-mode is one scan line of the
phantom's own heart. Axes: R row (speed or depth), C column (time).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from echoplane.phantom import echo
from echoplane.phantom.heart import Heart, moments
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import draw_optics, draw_scan
from echoplane.phantom.probe import pose
from echoplane.phantom.ranges import Ranges

Grey = NDArray[np.uint8]
BEAT_FRAMES = 64
"""Number of phases of one beat in M-mode; the columns between are interpolated."""


@dataclass(frozen=True)
class Strip:
    """Grey strip with the scales of its axes."""

    grey: Grey
    kind: str
    """Kind: pw-doppler, cw-doppler or m-mode."""
    seconds: float
    """Time over all columns."""
    per_row: float
    """Speed (cm/s) or depth (mm) of one row."""
    baseline_row: int
    """Row of speed 0, or of the skin."""


def draw_strip(heart: Heart, kind: str, rng: np.random.Generator, ranges: Ranges, size: tuple[int, int]) -> Strip:
    """Returns a strip of `kind` and `size` (rows, columns)."""
    seconds = float(rng.uniform(1.8, 5.0))
    if kind == "m-mode":
        return _m_mode(heart, rng, ranges, size, seconds)
    return _spectrum(heart, kind, rng, size, seconds)


def _phases(heart: Heart, rng: np.random.Generator, columns: int, seconds: float) -> NDArray[np.float64]:
    """Returns the phase of the beat at each column; beats differ by a few percent."""
    beats = seconds * heart.heart_rate_bpm / 60
    wander = np.cumsum(rng.normal(0, 0.002, columns))
    return rng.uniform() + np.linspace(0, beats, columns) + wander


def _spectrum(heart: Heart, kind: str, rng: np.random.Generator, size: tuple[int, int], seconds: float) -> Strip:
    rows, columns = size
    flow_C = _flow(heart, kind, rng, _phases(heart, rng, columns, seconds))
    limit_cm_s = float(np.abs(flow_C).max() * rng.uniform(1.15, 1.7))
    # The baseline is moved so that the flow has most of the strip.
    above = np.clip(flow_C.max() / max(np.ptp(flow_C), 1), 0.15, 0.85) + rng.uniform(-0.1, 0.1)
    baseline_row = int(rows * np.clip(above, 0.1, 0.9))
    per_row = limit_cm_s / max(baseline_row, rows - baseline_row)
    speed_R1 = np.asarray((baseline_row - np.arange(rows))[:, None] * per_row, np.float64)
    level_RC = _power(kind, rng, speed_R1, flow_C, limit_cm_s)
    wall_filter = 1 - np.exp(-((speed_R1 / (limit_cm_s * rng.uniform(0.02, 0.06))) ** 2))
    speckle_RC = gaussian_filter(rng.exponential(size=size), (rng.uniform(0.6, 1.2), rng.uniform(0.6, 2.0)))
    noise = rng.uniform(0.0, 0.12)
    signal_RC = (level_RC * wall_filter + noise) * speckle_RC / speckle_RC.mean()
    grey_RC = 255 * (np.clip(signal_RC * rng.uniform(0.7, 1.4), 0, 1) ** rng.uniform(0.5, 1.0))
    return Strip(grey_RC.astype(np.uint8), kind, seconds, per_row, baseline_row)


def _flow(heart: Heart, kind: str, rng: np.random.Generator, phase_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the speed of the fastest blood at each column, cm/s, towards the probe: inflow or outflow, or a jet of a
    valve."""
    inflow_C = moments(heart, phase_C).mitral.ravel()
    ejected_C = np.clip(np.mod(phase_C, 1) / heart.systole_share, 0, 1)
    # Speed rises faster than it falls, since the ventricle is strongest early in systole.
    outflow_C = np.sin(np.pi * ejected_C**0.8)
    way = rng.choice(["inflow", "outflow", "leak"])
    if kind == "pw-doppler":
        speed = rng.uniform(50, 130)
        return np.asarray(speed * inflow_C if way != "outflow" else -speed * outflow_C)
    if way == "outflow":
        return np.asarray(-rng.uniform(120, 500) * outflow_C)
    leak_C = np.sqrt(np.clip(outflow_C, 0, 1))
    if way == "inflow":
        return np.asarray(rng.uniform(80, 250) * inflow_C - rng.uniform(0, 150) * outflow_C)
    return np.asarray(rng.uniform(0, 100) * inflow_C - rng.uniform(200, 550) * leak_C)


def _power(
    kind: str,
    rng: np.random.Generator,
    speed_R1: NDArray[np.float64],
    flow_C: NDArray[np.float64],
    limit_cm_s: float,
) -> NDArray[np.float64]:
    """Returns the power at each speed and time: a band under the fastest speed, hollow for pulsed Doppler."""
    share_RC = speed_R1 / np.where(np.abs(flow_C) < 0.03 * limit_cm_s, np.inf, flow_C)
    edge_RC = np.clip((1 - share_RC) * 12, 0, 1) * (share_RC > 0)
    if kind == "pw-doppler":
        hollow = rng.uniform(0.5, 0.85)
        return np.asarray(edge_RC * np.clip((share_RC - hollow) / (1 - hollow) + rng.uniform(0.05, 0.4), 0, 1))
    return np.asarray(edge_RC * (rng.uniform(0.3, 0.7) + rng.uniform(0.1, 0.5) * share_RC))


def _m_mode(heart: Heart, rng: np.random.Generator, ranges: Ranges, size: tuple[int, int], seconds: float) -> Strip:
    """Returns the middle line of a parasternal view over one beat, repeated."""
    rows, columns = size
    optics = draw_optics(rng, ranges.optics)
    at = pose(heart, landmarks(heart), str(rng.choice(["plax", "sax-mid", "sax-basal"])), rng, ranges.hand)
    look, defects = draw_scan(rng, ranges)
    grid = echo.Grid((24, 120), (32, 240))
    moments_T = np.arange(BEAT_FRAMES) / BEAT_FRAMES
    polar_TAS = echo.scan(heart, at, optics, moments_T, look=look, defects=defects, grid=grid)
    line_ST = np.ascontiguousarray(polar_TAS[:, grid.fine[0] // 2].T)
    phase_C = np.mod(_phases(heart, rng, columns, seconds), 1) * BEAT_FRAMES
    column_RC, row_RC = np.meshgrid(phase_C, np.linspace(0, len(line_ST) - 1, rows))
    repeated_ST = np.concatenate([line_ST, line_ST[:, :1]], axis=1)
    grey_RC = cv2.remap(repeated_ST, column_RC.astype(np.float32), row_RC.astype(np.float32), cv2.INTER_LINEAR)
    return Strip(np.asarray(grey_RC, np.uint8), "m-mode", seconds, optics.depth_mm / rows, 0)
