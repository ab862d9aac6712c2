"""Converts polar pictures to the machine's screen: scan conversion, layout, burned-in text, scales and ECG.

Nothing here depends on the view: with the sector blanked, two views of the same patient and seed have the same screen.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from echoplane.phantom.identity import Identity, plain
from echoplane.phantom.optics import Optics
from echoplane.phantom.styles import Colour, Style, colour_map

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Sector:
    """Position of the ultrasound sector on the screen."""

    apex_rc: tuple[float, float]
    pixels_per_mm: float
    depth_mm: float
    half_angle_rad: float
    box: tuple[int, int, int, int]
    """First column, first row, last column, last row (inclusive) of the region that the header states."""


@dataclass(frozen=True)
class Caption:
    """Burned-in string, the left end of its baseline (column, row) and its colour."""

    text: str
    place: tuple[int, int]
    colour: Colour


def place_sector(style: Style, optics: Optics, rng: np.random.Generator) -> Sector:
    """Returns the sector at the style's position, shifted by a few pixels from scan to scan."""
    top = style.sector_top * style.height + rng.uniform(0, 6)
    length = (style.sector_bottom * style.height - top) * rng.uniform(0.96, 1.0)
    column = style.sector_centre * style.width + rng.uniform(-8, 8)
    reach = length * np.sin(optics.half_angle_rad)
    margin = int(rng.integers(1, 5))
    box = (
        max(int(column - reach) - margin, 0),
        max(int(top) - margin, 0),
        min(int(np.ceil(column + reach)) + margin, style.width - 1),
        min(int(np.ceil(top + length)) + margin, style.height - 1),
    )
    return Sector((top, column), length / optics.depth_mm, optics.depth_mm, optics.half_angle_rad, box)


@lru_cache(maxsize=4)
def _maps(sector: Sector, grid: tuple[int, int]) -> tuple[Frames, Frames, NDArray[np.bool_]]:
    """Returns fixed-point remap tables over the sector's box, and the sector's mask in the box."""
    x0, y0, x1, y1 = sector.box
    rows, columns = np.mgrid[y0 : y1 + 1, x0 : x1 + 1].astype(np.float32)
    down, right = rows - np.float32(sector.apex_rc[0]), columns - np.float32(sector.apex_rc[1])
    depth = np.sqrt(down * down + right * right) / np.float32(sector.pixels_per_mm * sector.depth_mm)
    angle = np.arctan2(right, down) / np.float32(sector.half_angle_rad)
    mask = (depth <= 1) & (np.abs(angle) <= 1) & (depth > 0.012)
    sample, line = depth * (grid[1] - 1), (angle + 1) * np.float32((grid[0] - 1) / 2)
    # Never past the last cell: remap is several times slower if it has to handle the border.
    sample, line = (np.clip(m, 0, n - 1.02).astype(np.float32) for m, n in ((sample, grid[1]), (line, grid[0])))
    first, second = cv2.convertMaps(sample, line, cv2.CV_16SC2)
    return first, second, mask


def sector_mask(style: Style, sector: Sector, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Returns the sector's mask over the whole screen, (row, column)."""
    mask = np.zeros((style.height, style.width), bool)
    x0, y0, x1, y1 = sector.box
    mask[y0 : y1 + 1, x0 : x1 + 1] = _maps(sector, grid)[2]
    return mask


def compose(polar: Frames, style: Style, sector: Sector, still: Frames) -> Frames:
    """Returns screens (frame, row, column, 3): the still screen with the sector of each polar picture (line, sample) in
    it."""
    first, second, mask = _maps(sector, (polar.shape[1], polar.shape[2]))
    x0, y0, x1, y1 = sector.box
    screens = np.repeat(still[None], len(polar), axis=0)
    lookup, cover = colour_map(style), mask.astype(np.uint8)
    for screen, picture in zip(screens, polar, strict=True):
        fan = cv2.remap(picture, first, second, cv2.INTER_LINEAR)
        cv2.copyTo(cv2.applyColorMap(fan, lookup), cover, screen[y0 : y1 + 1, x0 : x1 + 1])
    return screens


def captions(
    style: Style,
    identity: Identity,
    optics: Optics,
    acquired: datetime,
    frame_time_ms: float,
    heart_rate_bpm: int,
    rng: np.random.Generator,
) -> tuple[Caption, ...]:
    """Returns all text of a screen: patient and institution at the top, settings in the style's column."""
    left, right = (int(share * style.width) for share in style.columns)
    line = int(34 * style.font_scale) if style.font_scale < 0.6 else int(25 * style.font_scale)
    head = [
        (identity.screen_name, f"ID {identity.patient_id}", f"{identity.birth_date:%d.%m.%Y} {identity.sex}"),
        (plain(identity.hospital), acquired.strftime(style.dates)),
    ]
    settings = [
        f"FR {1000 / frame_time_ms:.0f} Hz",
        f"{optics.depth_mm / 10:.1f} cm",
        "2D",
        f"G {50 + 2 * optics.gain_db:.0f} %",
        f"C {optics.dynamic_range_db:.0f}",
        f"H {2 * optics.frequency_mhz:.1f} MHz",
        f"MI {rng.uniform(0.8, 1.5):.1f}",
        f"TI {rng.uniform(0.4, 1.6):.1f}",
    ]
    found = [Caption(t, (left, line * (k + 1)), style.text_colour) for k, t in enumerate(head[0])]
    found += [Caption(t, (int(0.56 * style.width), line * (k + 1)), style.text_colour) for k, t in enumerate(head[1])]
    start = int(0.20 * style.height)
    found += [Caption(t, (right, start + line * k), (150, 150, 150)) for k, t in enumerate(settings)]
    found.append(
        Caption(f"HR {heart_rate_bpm} bpm", (int(0.83 * style.width), int(0.985 * style.height)), style.ecg_colour)
    )
    found.append(Caption(plain(identity.department), (int(0.56 * style.width), 3 * line), (130, 130, 130)))
    return tuple(found)


def still_screen(style: Style, sector: Sector, texts: tuple[Caption, ...], focus_mm: float) -> Frames:
    """Returns the screen without sector and trace, (row, column, 3)."""
    screen = np.full((style.height, style.width, 3), style.background, np.uint8)
    _grey_bar(screen, style)
    _depth_scale(screen, style, sector, focus_mm)
    for caption in texts:
        write(screen, style, caption)
    row, column = sector.apex_rc
    mark = Caption(style.marker, (int(column) + 14 * style.scale_side, int(row) + 4), style.ecg_colour)
    write(screen, style, mark)
    return screen


def write(screen: Frames, style: Style, caption: Caption) -> None:
    """Burns one caption in, in place."""
    cv2.putText(screen, caption.text, caption.place, style.font, style.font_scale, caption.colour, 1, cv2.LINE_AA)


def _grey_bar(screen: Frames, style: Style) -> None:
    height, width = int(0.26 * style.height), max(int(0.014 * style.width), 8)
    top, left = int(0.42 * style.height), int(style.bar_at * style.width)
    ramp = np.linspace(255, 0, height).astype(np.uint8)[:, None].repeat(width, 1)
    screen[top : top + height, left : left + width] = cv2.applyColorMap(ramp, colour_map(style))
    cv2.rectangle(screen, (left - 1, top - 1), (left + width, top + height), (110, 110, 110), 1)


def _depth_scale(screen: Frames, style: Style, sector: Sector, focus_mm: float) -> None:
    """Draws one tick per centimetre, longer ones every five with a number, and the focus as a wedge."""
    edge = sector.box[2] + 6 if style.scale_side > 0 else sector.box[0] - 12
    edge = int(np.clip(edge, 24, style.width - 40))
    for centimetre in range(int(sector.depth_mm / 10) + 1):
        row = int(sector.apex_rc[0] + 10 * centimetre * sector.pixels_per_mm)
        long = centimetre % 5 == 0
        cv2.line(screen, (edge, row), (edge + (7 if long else 3), row), (190, 190, 190), 1)
        if long and centimetre:
            cv2.putText(screen, str(centimetre), (edge + 9, row + 4), style.font, 0.8 * style.font_scale, (190,) * 3, 1)
    row = int(sector.apex_rc[0] + focus_mm * sector.pixels_per_mm)
    cv2.fillPoly(screen, [np.array([[edge - 7, row - 4], [edge - 7, row + 4], [edge - 1, row]])], style.text_colour)
