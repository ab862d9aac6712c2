"""ECG at the bottom of the screen: one beat as a sum of waves, drawn as a sweep or a scroll."""

import cv2
import numpy as np
from numpy.typing import NDArray

from echoplane.phantom.styles import Style

WAVES = ((-0.20, 0.14, 0.025), (-0.03, -0.12, 0.009), (0.0, 1.0, 0.011), (0.03, -0.24, 0.010), (0.28, 0.30, 0.045))
"""Waves P, Q, R, S and T: seconds from the R wave at 60 beats per minute, height (mV), width (s) (McSharry 2003)."""
SWEEP_S = 3.2


def ecg_mv(time_s: NDArray[np.float64], heart_rate_bpm: float, phase_at_start: float) -> NDArray[np.float32]:
    """Returns the voltage at these times; phase 0 is the R wave."""
    beat_s = 60 / heart_rate_bpm
    phase_s = np.mod(time_s / beat_s + phase_at_start + 0.5, 1) * beat_s - 0.5 * beat_s
    # P and T come closer to the R wave as the beat shortens, by the square root (Bazett 1920).
    shorter = np.sqrt(beat_s)
    waves = [a * np.exp(-0.5 * ((phase_s - c * shorter) / w) ** 2) for c, a, w in WAVES]
    return np.asarray(sum(waves), np.float32)


def trace_box(style: Style) -> tuple[int, int, int, int]:
    """Returns first column, first row, last column, last row of the trace."""
    (top, bottom), (left, right) = style.ecg_rows, style.ecg_columns
    width = int((right - left) * style.width)
    x0 = int(left * style.width)
    return x0, int(top * style.height), x0 + width - 1, int(bottom * style.height) - 1


def draw_ecg(
    screens: NDArray[np.uint8],
    style: Style,
    frame_time_ms: float,
    heart_rate_bpm: float,
    phase_at_start: float,
    sweep_from: float,
) -> None:
    """Draws the trace into screens (frame, row, column, 3), in place; `sweep_from` is the cursor's position at frame
    0."""
    x0, y0, x1, y1 = trace_box(style)
    width, height = x1 - x0, y1 - y0
    share = np.linspace(0, 1, width)
    for frame, screen in enumerate(screens):
        now_s = frame * frame_time_ms / 1000
        cursor = (sweep_from + now_s / SWEEP_S) % 1
        # A sweep shows the newest beat left of the cursor and the one before right of it.
        age = np.where(share <= cursor, cursor - share, cursor - share + 1)
        if style.ecg_scrolls:
            age = 1 - share
        volts = ecg_mv(now_s - age * SWEEP_S, heart_rate_bpm, phase_at_start)
        rows = y1 - (0.18 + 0.72 * (volts + 0.1) / 1.1) * height
        line = np.stack([x0 + np.arange(width), rows], axis=1)
        if not style.ecg_scrolls:
            gap = (share > cursor) & (share < cursor + 0.02)
            line = line[~gap]
        cv2.polylines(screen, [np.round(line).astype(np.int32)], False, style.ecg_colour, 1)
        column = x0 + int((1 if style.ecg_scrolls else cursor) * width)
        cv2.line(screen, (column, y0), (column, y1), style.ecg_colour, 1)
