"""Sets of burned-in text with known ink: 24 clips of 30 frames, 6 texts each, 3 in the border and 3 in the sector.

Speckle moves with a beating heart, as tissue does, and a part of it is new in every frame. `easy`: white, upright, in
every frame, 16 to 26 pixels high. `hard` gives each clip low contrast, rotation, one frame only, motion, small and
dark letters on a bright plate. Four fonts, all from matplotlib's wheel, so that a set is the same on every machine.
Axes: T frame, H row, W column.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROWS, COLUMNS, FRAMES, CLIPS = 480, 640, 30, 24
APEX_RC, RADIUS, HALF_ANGLE = (70, 320), 380, 0.72
BOX = (64, 64, 464, 576)  # of the sector's region: top, left, bottom, right, exclusive
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "cmss10.ttf")
OTHER_FONTS = ("DejaVuSerif.ttf", "STIXGeneral.ttf", "DejaVuSansMono-Bold.ttf", "cmtt10.ttf")
HARD = ("low-contrast", "rotated", "one-frame", "moving", "small", "dark-on-bright")
SURNAMES = ("ZWETSCHGEN", "Quacksalber", "OKONKWO", "Hinterwald", "Nakamura", "PETROVA", "Lindqvist", "O'BRIEN")
GIVEN = ("ROSALINDE", "Balduin", "Chidi", "Maria", "Kenji", "IRINA", "Astrid", "Sean")


@dataclass(frozen=True)
class Text:
    """One text: where it is ink, as indices of frame, row and column, and how it was made hard."""

    place: str
    kind: str
    ink_TRC: tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Clip:
    """Grey frames with the texts in them; `fan_HW` is the sector."""

    frames_THW: np.ndarray
    texts: tuple[Text, ...]
    fan_HW: np.ndarray


def clips(hardness: str, seed: int, count: int = CLIPS, fonts: tuple[str, ...] = FONTS) -> Iterator[Clip]:
    """The set `easy` or `hard`, or the same sectors without text (`clean`)."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        frames_THW, fan_HW = _background(rng)
        texts = () if hardness == "clean" else tuple(_write(frames_THW, fan_HW, hardness, number, fonts, rng))
        yield Clip(frames_THW, texts, fan_HW)


def _background(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:ROWS, :COLUMNS].astype(np.float32)
    depth = np.hypot(rows - APEX_RC[0], columns - APEX_RC[1])
    angle = np.arctan2(columns - APEX_RC[1], rows - APEX_RC[0])
    fan_HW = (depth > 12) & (depth < RADIUS) & (abs(angle) < HALF_ANGLE)
    still = _speckle(rng)
    brightness = rng.uniform(0.75, 1.35)
    beat, phase = rng.uniform(18, 30), rng.uniform(0, 6)
    centres = [(rng.uniform(170, 330), rng.uniform(230, 410)) for _ in range(3)]
    sizes = [(rng.uniform(35, 70), rng.uniform(25, 50)) for _ in range(3)]
    frames = []
    for time in range(FRAMES):
        squeeze = np.sin(2 * np.pi * time / beat + phase)
        moved = (
            columns + 5 * squeeze * np.sin(rows / 60) + rng.normal(0, 0.3),
            rows + 6 * squeeze * np.cos(columns / 80),
        )
        tissue = cv2.remap(still, *(m.astype(np.float32) for m in moved), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        speckle = 0.8 * tissue + 0.6 * _speckle(rng)
        level = brightness * (70 + 45 * np.sin(depth / 55 + 0.4 * squeeze) + 25 * np.cos(3 * angle))
        for (row, column), (high, wide) in zip(centres, sizes, strict=True):
            cavity = ((rows - row) / (high + 8 * squeeze)) ** 2 + ((columns - column) / (wide + 8 * squeeze)) ** 2
            level = level * (1 - 0.85 / (1 + np.exp(np.clip(6 * (cavity - 1), -30, 30))))
        grey = level * np.exp(0.38 * speckle)
        frames.append(np.where(fan_HW, np.clip(grey, 0, 255), 0).astype(np.uint8))
    return np.stack(frames), fan_HW


def _speckle(rng: np.random.Generator) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(size=(ROWS, COLUMNS)).astype(np.float32), (0, 0), 2.2, sigmaY=1.1)
    return noise / noise.std()


def _write(
    frames_THW: np.ndarray,
    fan_HW: np.ndarray,
    hardness: str,
    number: int,
    fonts: tuple[str, ...],
    rng: np.random.Generator,
) -> Iterator[Text]:
    taken = np.zeros((ROWS, COLUMNS), bool)
    for index in range(6):
        place = ("border", "sector")[index % 2]
        kind = "plain" if hardness == "easy" else HARD[(number * 3 + index // 2 + (index % 2) * 2) % len(HARD)]
        yield _one_text(frames_THW, fan_HW, taken, place, kind, fonts, rng)


def _one_text(
    frames_THW: np.ndarray,
    fan_HW: np.ndarray,
    taken: np.ndarray,
    place: str,
    kind: str,
    fonts: tuple[str, ...],
    rng: np.random.Generator,
) -> Text:
    while True:
        shape = _letters(kind, fonts, rng)
        path = _path(shape.shape, kind, rng)
        covered = np.zeros((ROWS, COLUMNS), bool)
        for row, column in path:
            covered[row - 2 : row + shape.shape[0] + 2, column - 4 : column + shape.shape[1] + 4] = True
        within = fan_HW[covered].all() if place == "sector" else not fan_HW[covered].any()
        if within and not taken[covered].any():
            break
    taken |= covered
    first = int(rng.integers(0, FRAMES)) if kind == "one-frame" else 0
    shown = range(first, first + 1) if kind == "one-frame" else range(FRAMES)
    level = _level(frames_THW, covered, kind, rng)
    ink = [_draw(frames_THW, time, shape, path[time % len(path)], kind, level) for time in shown]
    return Text(place, kind, tuple(np.concatenate(axis) for axis in zip(*ink, strict=True)))  # type: ignore[arg-type]


def _letters(kind: str, fonts: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """The text as coverage, 0 to 1."""
    height = int(rng.integers(10, 13)) if kind == "small" else int(rng.integers(16, 27))
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(folder / fonts[rng.integers(len(fonts))]), height)
    words = _words(rng)
    left, top, right, bottom = font.getbbox(words)
    image = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), words, 255, font)
    if kind == "rotated":
        angle = float(rng.choice([90, 270, *rng.uniform(-30, 30, 4)]))
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    return np.asarray(image) / 255


def _words(rng: np.random.Generator) -> str:
    """What scanners write of a patient: a name, a number, a date of birth."""
    choice = rng.integers(4)
    if choice == 0:
        return str(rng.choice(SURNAMES))
    if choice == 1:
        return f"{rng.choice(SURNAMES)[:6]}, {rng.choice(GIVEN)[:5]}"
    if choice == 2:
        return f"MRN{rng.integers(100000, 999999)}"
    return f"{rng.integers(10, 29)}/{rng.integers(10, 13)}/19{rng.integers(30, 99)}"


def _path(shape: tuple[int, int], kind: str, rng: np.random.Generator) -> list[tuple[int, int]]:
    """The upper left corner in each frame; one place unless the text moves, by 1 to 2.5 pixels a frame."""
    speed = rng.uniform(1, 2.5) * (1 if rng.random() < 0.5 else -1) if kind == "moving" else 0.0
    span = abs(round(speed * FRAMES)) + 8
    if kind == "moving" and rng.random() < 0.5:
        row = int(rng.integers(span, ROWS - shape[0] - span))
        column = int(rng.integers(5, COLUMNS - shape[1] - 5))
        return [(row + round(speed * time), column) for time in range(FRAMES)]
    row = int(rng.integers(5, ROWS - shape[0] - 5))
    column = int(rng.integers(5 + (span if kind == "moving" else 0), COLUMNS - shape[1] - span))
    return [(row, column + round(speed * time)) for time in range(FRAMES)] if kind == "moving" else [(row, column)]


def _level(frames_THW: np.ndarray, covered: np.ndarray, kind: str, rng: np.random.Generator) -> float:
    if kind == "low-contrast":  # 50 to 80 above what lies around
        return min(255.0, float(frames_THW[:, covered].mean()) + rng.uniform(50, 80))
    return 25.0 if kind == "dark-on-bright" else rng.uniform(225, 255)


def _draw(
    frames_THW: np.ndarray, time: int, shape: np.ndarray, place: tuple[int, int], kind: str, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write into one frame; the indices of its ink."""
    (row, column), (high, wide) = place, shape.shape
    if kind == "dark-on-bright":
        frames_THW[time, row - 2 : row + high + 2, column - 3 : column + wide + 3] = 200
    area = frames_THW[time, row : row + high, column : column + wide]
    area[:] = np.round(area * (1 - shape) + level * shape)
    rows, columns = np.nonzero(shape > 0.5)
    return np.full(len(rows), time), rows + row, columns + column
