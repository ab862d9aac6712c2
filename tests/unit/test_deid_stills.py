"""Text in pictures that do not move: barcodes, large, turned and few letters in stills and MR; and MR without any."""

import unicodedata
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from echoplane.deid import stills
from tests.unit.test_deid_builder import echo, region, run, written
from tests.unit.test_deid_pixels import mr, mr_cine
from tests.unit.test_deid_regions import fan

BOX = (32, 32, 336, 448)
FONT = cv2.FONT_HERSHEY_SIMPLEX
BARS = (3, 1, 2, 1, 4, 1, 1, 2, 3, 1, 1, 4, 2, 1, 3, 2, 1, 1, 4, 1, 2, 2, 1, 3)


def barcode(module: int, height: int) -> np.ndarray:
    """Black and white bars of 1 to 4 modules; True for white."""
    row = np.concatenate([np.full(bar * module, number % 2 == 0) for number, bar in enumerate(BARS)])
    return np.repeat(row[None], height, axis=0)


def square_code(module: int) -> np.ndarray:
    """A two-dimensional code with three corner marks; True for white."""
    cells = np.random.default_rng(8).random((21, 21)) < 0.5
    mark = np.ones((7, 7), bool)
    mark[1:6, 1:6], mark[2:5, 2:5] = False, True
    cells[:7, :7] = cells[:7, -7:] = cells[-7:, :7] = mark
    return cells.repeat(module, 0).repeat(module, 1)


def still_with(ink_HW: np.ndarray, at_rc: tuple[int, int], level: int = 250) -> Dataset:
    """A still of a sector with a plate, white where `ink_HW` is True and black elsewhere."""
    pixels = fan(frames=1)
    plate = pixels[0, at_rc[0] : at_rc[0] + ink_HW.shape[0], at_rc[1] : at_rc[1] + ink_HW.shape[1]]
    plate[:] = np.where(ink_HW, level, 0)[..., None]
    return echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)])


CODES = {
    "barcode": (barcode(2, 40), (150, 190)),
    "upright barcode": (barcode(2, 40).T, (150, 220)),
    "fine barcode": (barcode(1, 24), (150, 215)),
    "two-dimensional code": (square_code(3), (150, 210)),
}


@pytest.mark.parametrize("kind", CODES)
def test_d13_a_still_with_a_code_over_the_scan_is_held(tmp_path: Path, kind: str) -> None:
    assert run(still_with(*CODES[kind]), tmp_path).reason == "text-in-still"


def test_d13_a_still_with_a_name_110_pixels_high_is_held(tmp_path: Path) -> None:
    pixels = fan(frames=1)
    cv2.putText(pixels[0], "LEE", (140, 270), cv2.FONT_HERSHEY_DUPLEX, 4.6, (245, 245, 245), 22)
    assert run(echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path).reason == "text-in-still"


@pytest.mark.parametrize("degrees", [45, -45])
def test_d13_a_still_with_a_turned_name_is_held(tmp_path: Path, degrees: int) -> None:
    pixels = fan(frames=1)
    pixels[0, turned_name(pixels.shape[1:3], degrees) > 128] = 245
    assert run(echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path).reason == "text-in-still"


def test_d13_a_clip_that_stands_still_is_held_for_a_barcode(tmp_path: Path) -> None:
    pixels = fan(frames=1).repeat(6, axis=0)
    pixels[:, 150:190, 190 : 190 + barcode(2, 40).shape[1]] = np.where(barcode(2, 40), 250, 0)[..., None]
    assert run(echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path).reason == "text-in-still"


def test_d13_a_still_without_text_is_written(tmp_path: Path) -> None:
    outcome = run(echo(fan(frames=1), SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path)
    assert outcome.flags == ("does-not-move",)


def turned_name(shape: tuple[int, int], degrees: int) -> np.ndarray:
    ink = cv2.putText(np.zeros(shape, np.uint8), "ZWETSCHGEN", (shape[1] // 2 - 60, shape[0] // 2), FONT, 0.6, 255, 2)
    turn = cv2.getRotationMatrix2D((shape[1] / 2, shape[0] / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(ink, turn, shape[::-1]))


def arabic() -> np.ndarray:
    """A name of 16 pixels in Arabic, in the joined forms of its letters, from right to left."""
    letters = ["MEEM INITIAL", "HAH MEDIAL", "MEEM MEDIAL", "DAL FINAL", "YEH INITIAL", "WAW FINAL", "SEEN INITIAL"]
    forms = [unicodedata.lookup(f"ARABIC LETTER {letter} FORM") for letter in letters]
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    image = Image.new("L", (192, 192))
    ImageDraw.Draw(image).text((70, 90), "".join(reversed(forms)), 255, ImageFont.truetype(str(path), 16))
    return np.asarray(image)


def two_letters() -> np.ndarray:
    return cv2.putText(np.zeros((192, 192), np.uint8), "HU", (90, 100), FONT, 0.6, 255, 1)


def code_in(picture: np.ndarray) -> np.ndarray:
    inked = np.zeros((192, 192), np.uint8)
    inked[80 : 80 + picture.shape[0], 60 : 60 + picture.shape[1]] = picture * np.uint8(255)
    return inked


INK = {
    "barcode": code_in(barcode(2, 30)),
    "two-dimensional code": code_in(square_code(2)),
    "at 45 degrees": turned_name((192, 192), 45),
    "at -45 degrees": turned_name((192, 192), -45),
    "two letters": two_letters(),
    "Arabic": arabic(),
    "letters 90 pixels high": cv2.putText(np.zeros((192, 192), np.uint8), "LEE", (10, 140), FONT, 3.2, 255, 10),
}


@pytest.mark.parametrize("kind", INK)
def test_d14_text_in_an_mr_image_is_held(tmp_path: Path, kind: str) -> None:
    pixels = mr_cine()
    pixels[-1] = np.maximum(pixels[-1], INK[kind] * 3)
    assert run(mr(pixels), tmp_path).reason == "text-in-image"


def folded(frames: int = 3) -> np.ndarray:
    """Bright folds, thin vessels and a skull, as a brain has, in 12 bits with the blur of a scanner."""
    rng = np.random.default_rng(21)
    row, column = np.mgrid[:256, :256]
    radius, angle = np.hypot(row - 128, column - 128), np.arctan2(row - 128, column - 128)
    folds = cv2.GaussianBlur(rng.normal(size=(256, 256)), (0, 0), 3)
    level = 300 * (radius < 96) + 500 * (abs(folds) < 0.02) * (radius < 92) + 900 * (abs(radius - 104) < 3)
    level = level + 700 * (abs(np.sin(9 * angle) * 20 + 60 - radius) < 1.5)
    noisy = cv2.GaussianBlur(level.astype(float), (0, 0), 0.8) + rng.normal(0, 12, (frames, 256, 256))
    return np.clip(noisy + 20, 0, 4095).astype(np.uint16)


@pytest.mark.parametrize("enhanced", [False, True])
def test_d18_mr_without_text_is_written(tmp_path: Path, enhanced: bool) -> None:
    dataset = mr(folded())
    if enhanced:
        window = Dataset()
        window.WindowCenter, window.WindowWidth = "300", "600"
        group = Dataset()
        group.FrameVOILUTSequence = [window]
        dataset.SOPClassUID = EnhancedMRImageStorage
        dataset.PerFrameFunctionalGroupsSequence = [group] * 3
    assert written(run(dataset, tmp_path), tmp_path).Rows == 256


@pytest.mark.parametrize("name", ["MR2_J2KI.dcm", "MR-SIEMENS-DICOM-WithOverlays.dcm", "emri_small.dcm"])
def test_d18_a_real_mr_image_without_text_is_written(tmp_path: Path, name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} is not in this installation")
    assert run(Path(str(path)).read_bytes(), tmp_path).reason is None


def test_a_smooth_vessel_is_no_ink() -> None:
    line = cv2.line(np.zeros((96, 96), np.float32), (10, 20), (80, 70), 400.0, 5)
    blurred = cv2.GaussianBlur(line, (0, 0), 1.5)
    picture = (240 * blurred / blurred.max()).astype(np.uint8)
    assert not stills.has_ink(picture, picture)
