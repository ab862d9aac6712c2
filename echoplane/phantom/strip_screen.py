"""Screen of the machine with a Doppler spectrum or an M-mode strip, as a still."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import cv2
import numpy as np
from numpy.typing import NDArray

from echoplane.errors import ConfigError
from echoplane.phantom import screen
from echoplane.phantom.optics import Optics, draw_optics
from echoplane.phantom.patient import Patient
from echoplane.phantom.ranges import USUAL, Ranges
from echoplane.phantom.strips import Strip, draw_strip
from echoplane.phantom.styles import STYLES, Style, colour_map
from echoplane.study.views import STILL_VIEWS

STRIP_NAMES = tuple(view.name for view in STILL_VIEWS)
LINE = (150, 150, 150)


@dataclass(frozen=True, repr=False)
class StripStill:
    """One screen and the content of its header."""

    rgb: NDArray[np.uint8]
    """Screen (1, row, column, 3)."""
    strip: Strip
    box: tuple[int, int, int, int]
    """First column, first row, last column, last row of the strip."""
    captions: tuple[screen.Caption, ...]
    """All burned-in text."""
    heart_rate_bpm: int
    acquired: datetime
    number: int
    """Position of the still in the study, from 1."""
    optics: Optics
    style: Style
    view: str
    seed: int


def scan_strip(
    patient: Patient, kind: str, seed: int, *, style: str | None = None, number: int = 1, ranges: Ranges = USUAL
) -> StripStill:
    """Records a spectrum or an M-mode of the patient's heart."""
    if kind not in STRIP_NAMES:
        raise ConfigError(f"there is no still {kind!r}; one of {', '.join(STRIP_NAMES)} is needed")
    machine = STYLES[style or patient.style]
    rng = np.random.default_rng([patient.seed, seed, 51])
    optics = draw_optics(rng, ranges.optics)
    rate = round(patient.heart.heart_rate_bpm * rng.uniform(0.96, 1.04))
    acquired = patient.identity.study_start + timedelta(seconds=45 * number + int(rng.integers(30)))
    texts = screen.captions(machine, patient.identity, optics, acquired, 1000 / 30, rate, rng)
    box = _place(machine, rng)
    x0, y0, x1, y1 = box
    strip = draw_strip(patient.heart, kind, rng, ranges, (y1 - y0 + 1, x1 - x0 + 1))
    picture = np.full((machine.height, machine.width, 3), machine.background, np.uint8)
    picture[y0 : y1 + 1, x0 : x1 + 1] = cv2.applyColorMap(strip.grey, colour_map(machine))
    _scales(picture, machine, strip, box)
    for caption in texts:
        screen.write(picture, machine, caption)
    return StripStill(picture[None], strip, box, texts, rate, acquired, number, optics, machine, kind, seed)


def _place(style: Style, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Returns the strip's box: the lower half of the screen, or most of it."""
    top = int(style.height * rng.uniform(0.2, 0.5))
    left = int(style.width * rng.uniform(0.2, 0.24))
    return left, top, int(style.width * 0.78), int(style.height * 0.86)


def _scales(picture: NDArray[np.uint8], style: Style, strip: Strip, box: tuple[int, int, int, int]) -> None:
    """Draws the baseline, a tick per half second below, and ticks of speed (cm/s) or depth (mm) at the right."""
    x0, y0, x1, y1 = box
    if strip.kind != "m-mode":
        cv2.line(picture, (x0, y0 + strip.baseline_row), (x1, y0 + strip.baseline_row), style.ecg_colour, 1)
    for k in range(int(2 * strip.seconds) + 1):
        column = x0 + int(k * 0.5 / strip.seconds * (x1 - x0))
        cv2.line(picture, (column, y1 + 2), (column, y1 + 6), LINE, 1)
    rows = y1 - y0 + 1
    step = _round_step(strip.per_row * rows / 5)
    for k in range(-10, 11):
        row = round(strip.baseline_row + k * step / strip.per_row)
        if 0 <= row < rows:
            cv2.line(picture, (x1 + 2, y0 + row), (x1 + 6, y0 + row), LINE, 1)
            text = f"{abs(k) * step:.0f}"
            cv2.putText(picture, text, (x1 + 9, y0 + row + 4), style.font, 0.8 * style.font_scale, LINE, 1)


def _round_step(wanted: float) -> float:
    """Returns the round figure (1, 2 or 5 times a power of ten) at or above `wanted`."""
    power = 10 ** np.floor(np.log10(wanted))
    return float(power * next(factor for factor in (1, 2, 5, 10) if factor * power >= wanted))
