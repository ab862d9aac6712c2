"""Screen layouts of three invented manufacturers. A style belongs to a machine, never to a view."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""Red, green, blue."""


@dataclass(frozen=True)
class Style:
    """One machine: its screen and the header it writes. Positions are shares of the screen's height or width."""

    name: str
    manufacturer: str
    model: str
    software: str
    width: int
    height: int
    font: int
    font_scale: float
    text_colour: Colour
    background: Colour
    tint: Colour
    """Colour of full white; the grey map runs from black to it."""
    gamma: float
    sector_top: float
    sector_bottom: float
    sector_centre: float
    columns: tuple[float, float]
    """Left edge of the identity text and of the settings text."""
    bar_at: float
    """Left edge of the grey bar."""
    scale_side: int
    """Side of the depth ticks: +1 right of the sector, -1 left."""
    ecg_colour: Colour
    ecg_rows: tuple[float, float]
    ecg_columns: tuple[float, float]
    ecg_scrolls: bool
    """True if the trace moves under a still cursor, False if the cursor moves over a still trace."""
    trace_region: bool
    private_tags: bool
    marker: str
    jpeg_quality: int
    dates: str


STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        Style(
            name="meridian",
            manufacturer="Meridian Ultrasound",
            model="M9",
            software="5.2.1",
            width=640,
            height=480,
            font=cv2.FONT_HERSHEY_SIMPLEX,
            font_scale=0.38,
            text_colour=(225, 225, 225),
            background=(0, 0, 0),
            tint=(255, 255, 255),
            gamma=1.0,
            sector_top=0.125,
            sector_bottom=0.86,
            sector_centre=0.53,
            columns=(0.015, 0.015),
            bar_at=0.965,
            scale_side=1,
            ecg_colour=(60, 220, 90),
            ecg_rows=(0.88, 0.98),
            ecg_columns=(0.08, 0.80),
            ecg_scrolls=False,
            trace_region=True,
            private_tags=False,
            marker="M",
            jpeg_quality=85,
            dates="%d/%m/%Y %H:%M:%S",
        ),
        Style(
            name="halcyon",
            manufacturer="Halcyon Medical Imaging",
            model="Vantis 7",
            software="B.114",
            width=800,
            height=600,
            font=cv2.FONT_HERSHEY_DUPLEX,
            font_scale=0.42,
            text_colour=(250, 225, 150),
            background=(8, 8, 12),
            tint=(255, 238, 208),
            gamma=0.9,
            sector_top=0.10,
            sector_bottom=0.85,
            sector_centre=0.50,
            columns=(0.012, 0.80),
            bar_at=0.02,
            scale_side=-1,
            ecg_colour=(240, 220, 60),
            ecg_rows=(0.88, 0.97),
            ecg_columns=(0.03, 0.81),
            ecg_scrolls=True,
            trace_region=True,
            private_tags=True,
            marker="V",
            jpeg_quality=88,
            dates="%Y-%m-%d  %H:%M",
        ),
        Style(
            name="osprey",
            manufacturer="Osprey Sonics",
            model="OS-3 Cardio",
            software="3.0 (2021-02)",
            width=1016,
            height=708,
            font=cv2.FONT_HERSHEY_COMPLEX_SMALL,
            font_scale=0.72,
            text_colour=(150, 205, 255),
            background=(0, 0, 0),
            tint=(226, 240, 255),
            gamma=1.1,
            sector_top=0.085,
            sector_bottom=0.86,
            sector_centre=0.47,
            columns=(0.01, 0.865),
            bar_at=0.955,
            scale_side=-1,
            ecg_colour=(80, 230, 230),
            ecg_rows=(0.89, 0.985),
            ecg_columns=(0.02, 0.78),
            ecg_scrolls=False,
            trace_region=False,
            private_tags=False,
            marker="O",
            jpeg_quality=82,
            dates="%b %d %Y %H:%M:%S",
        ),
    )
}


@cache
def colour_map(style: Style) -> NDArray[np.uint8]:
    """Returns the screen colour of each grey, (256, 1, 3); black stays black whatever the tint."""
    grey = np.linspace(0, 1, 256)[:, None] ** style.gamma
    # The tint increases with brightness: dark greys of a sepia map are nearly neutral.
    tint = np.array(style.tint)[None] / 255
    return np.round(255 * grey * (1 - (1 - tint) * (0.35 + 0.65 * grey))).astype(np.uint8)[:, None]
