"""Text over the fan that a projection over time does not show, and sectors without text."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.pixels import pixel_array

from echoplane.deid import detector, energy, letters
from tests.unit.test_deid_builder import clip, echo, region, run, set_native, written
from tests.unit.test_deid_regions import fan

SHAPE, BOX, FRAMES = (360, 480), (96, 96, 336, 432), 12
FONT = cv2.FONT_HERSHEY_SIMPLEX


def tissue(frames: int = FRAMES) -> np.ndarray:
    """Finer speckle than the builder's, which is like letters in size."""
    clip_THWC = clip(text="", frames=frames, shape=SHAPE)
    inside = np.s_[BOX[0] : BOX[2], BOX[1] : BOX[3]]
    rng = np.random.default_rng(11)
    for frame_HWC in clip_THWC:
        noise = cv2.GaussianBlur(rng.normal(size=SHAPE), (0, 0), 1.5)[inside]
        frame_HWC[inside] = np.clip(70 + 200 * noise, 20, 160)[..., None]
    return clip_THWC


def write(frame_HWC: np.ndarray, at_xy: tuple[int, int], level: int = 250, angle: float = 0.0) -> None:
    layer = np.zeros(SHAPE, np.uint8)
    cv2.putText(layer, "ROSALINDE", at_xy, FONT, 0.7, 255, 2, cv2.LINE_AA)
    if angle:
        turn = cv2.getRotationMatrix2D((at_xy[0] + 60.0, at_xy[1] - 8.0), angle, 1)
        layer = cv2.warpAffine(layer, turn, SHAPE[::-1])
    frame_HWC[layer > 128] = level


def share_covered(pixels: np.ndarray, plain: np.ndarray, folder: Path, native: bool = False) -> float:
    """Of the ink, how much is black in the written file."""
    dataset = echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)])
    if native:
        set_native(dataset, pixels, "RGB")
    result = pixel_array(written(run(dataset, folder), folder))
    ink = (pixels != plain).any(axis=3)
    return float((result.max(axis=3)[ink] <= 2).mean())


def test_case_14_text_that_moves_over_the_scan_is_masked(tmp_path: Path) -> None:
    plain = tissue()
    pixels = plain.copy()
    for number, frame in enumerate(pixels):
        write(frame, (150 + 3 * number, 200))
    assert share_covered(pixels, plain, tmp_path) > 0.9


@pytest.mark.parametrize("native", [False, True], ids=["jpeg", "native"])
def test_case_15_text_over_the_scan_in_the_last_frame_alone_is_masked(tmp_path: Path, native: bool) -> None:
    plain = tissue()
    pixels = plain.copy()
    write(pixels[-1], (170, 210))
    assert share_covered(pixels, plain, tmp_path, native) > 0.9


@pytest.mark.parametrize(("level", "angle"), [(150, 0.0), (250, 25.0), (250, 90.0)])
def test_case_14_text_that_is_faint_or_turned_is_masked(tmp_path: Path, level: int, angle: float) -> None:
    plain = tissue()
    pixels = plain.copy()
    for frame in pixels:
        write(frame, (180, 220), level, angle)
    assert share_covered(pixels, plain, tmp_path) > 0.9


def test_case_14_a_word_that_is_found_in_part_is_followed_to_its_end() -> None:
    pixels = np.ascontiguousarray(tissue()[..., 0])
    for frame in pixels:
        cv2.putText(frame, "ZWETSCHGEN ROSALINDE", (110, 220), FONT, 0.7, 250, 2, cv2.LINE_AA)
    first = np.zeros((SHAPE[0] // 8, SHAPE[1] // 8), bool)
    first[26:28, 14:18] = True
    found = letters.to_the_end(first, pixels)
    assert found[26:28, 14:45].all()
    assert not found[:20].any()


@pytest.mark.parametrize("turns", [1, 3])
def test_case_14_a_name_that_stands_upright_is_masked_in_small_letters(tmp_path: Path, turns: int) -> None:
    plain = tissue()
    pixels = plain.copy()
    name = cv2.putText(np.zeros((24, 120), np.uint8), "Quacksalber", (4, 16), FONT, 0.55, 255, 1, cv2.LINE_AA)
    upright = np.rot90(name, turns)
    for frame in pixels:
        area = frame[150 : 150 + upright.shape[0], 240 : 240 + upright.shape[1]]
        area[upright > 100] = 210
    assert share_covered(pixels, plain, tmp_path) > 0.9


def test_case_14_a_line_on_its_side_that_the_network_does_not_see_is_seen_in_a_turned_view() -> None:
    name = cv2.putText(np.zeros((24, 141), np.uint8), "Quacksalber", (4, 16), FONT, 0.55, 255, 1, cv2.LINE_AA)
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(size=(168, 64)), (0, 0), 1.5)
    grey = np.clip(60 + 40 * noise, 0, 255).astype(np.uint8)
    grey[16:157, 16:40][np.rot90(name, 3) > 100] = 210
    view = np.repeat(grey[..., None], 3, axis=2)
    group = np.zeros((21, 8), bool)
    group[2:20, 2:6] = True
    assert not detector.lines(view).any()
    assert letters._seen(view, group).any()


@pytest.mark.parametrize("number", [10, 20])
def test_case_15_text_at_the_rim_of_the_fan_in_one_frame_is_masked(tmp_path: Path, number: int) -> None:
    plain = np.roll(fan(frames=24), 4, axis=1)
    pixels = plain.copy()
    cv2.putText(pixels[number], "ROSALINDE", (196, 336), FONT, 0.5, (255, 255, 255), 1)
    dataset = echo(pixels, SequenceOfUltrasoundRegions=[region((32, 32, 336, 448))])
    result = pixel_array(written(run(dataset, tmp_path), tmp_path))
    ink = (pixels != plain).any(axis=3)
    assert (result.max(axis=3)[ink] <= 2).mean() > 0.9


def test_of_a_group_far_larger_than_its_line_only_the_blocks_near_the_line_are_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group_HW, line_HW = np.zeros((2, 60, 60), bool)
    group_HW[10:50, 10:50] = line_HW[20:23, 30:38] = True
    monkeypatch.setattr(energy, "groups", lambda *_: [energy.Group(group_HW, ())])
    monkeypatch.setattr(letters, "_lines_at", lambda *_: line_HW)
    found_HW = letters.search(np.zeros((1, 60, 60)), group_HW, np.zeros((1, 480, 480), np.uint8), lambda _: line_HW)
    assert found_HW[line_HW].all()
    assert found_HW[23:25, 38:40].all()
    assert not found_HW[30:].any()
    assert not found_HW[:, :24].any()


def test_a_sector_without_text_is_left_as_it_is(tmp_path: Path) -> None:
    outcome = run(echo(tissue(), SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path)
    assert outcome.flags == ()
    assert pixel_array(written(outcome, tmp_path))[:, 100:330, 100:430].max(axis=(0, 3)).min() > 20


def test_without_the_detector_nothing_is_called_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: np.ndarray) -> np.ndarray:
        raise FileNotFoundError

    monkeypatch.setattr(detector, "lines", missing)
    pixels = tissue()
    write(pixels[-1], (170, 210))
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path)
    assert outcome.status == "quarantined"


def test_detail_from_coefficients_ranks_blocks_as_detail_from_pixels_does() -> None:
    import simplejpeg

    from echoplane.deid import jpeg, libjpeg

    image = tissue(1)[0]
    write(image, (170, 210))
    frame = jpeg.parse(simplejpeg.encode_jpeg(np.ascontiguousarray(image), 90, colorsubsampling="422"))
    seen: list[np.ndarray] = []

    def look(_: int, parts: list[np.ndarray]) -> None:
        seen.append(energy.of_coefficients(parts[0], np.array(frame.layout.components[0].quantisers)))

    libjpeg.transcode(frame.stream, frame.layout.blocks(), look)
    grey = simplejpeg.decode_jpeg(frame.stream, "GRAY")[..., 0]
    assert np.corrcoef(seen[0].ravel(), energy.of_pixels(grey).ravel())[0, 1] > 0.95
