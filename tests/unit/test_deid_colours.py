"""Text that grey does not show: in colour over the scan, white over flow, or too faint for the mean of a block."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.pixels import pixel_array

from echoplane.deid import search, text
from echoplane.deid.regions import Box, Mask
from tests.unit.test_deid_builder import echo, region, run, set_jpeg, set_native, written
from tests.unit.test_deid_letters import BOX, FONT, FRAMES, SHAPE, tissue
from tests.unit.test_deid_regions import fan

RED, BLUE, GREY = (255, 30, 30), (40, 60, 255), (140, 140, 140)


def with_name(plain: np.ndarray, colour: tuple[int, int, int], at_xy: tuple[int, int] = (170, 210)) -> np.ndarray:
    """The clip with a name that stands in every frame."""
    pixels = plain.copy()
    for frame_HWC in pixels:
        cv2.putText(frame_HWC, "ROSALINDE", at_xy, FONT, 0.6, colour, 1, cv2.LINE_AA)
    return pixels


def flow(frames: int = FRAMES) -> np.ndarray:
    """Speckle with flow from red to yellow in the middle, which changes in every frame."""
    clip_THWC = tissue(frames)
    rng = np.random.default_rng(5)
    for frame_HWC in clip_THWC:
        speed = cv2.GaussianBlur(rng.normal(size=SHAPE), (0, 0), 3)
        speed = np.clip(128 + 900 * speed, 0, 255).astype(np.uint8)
        jet_HWC = np.stack([np.full(SHAPE, 230, np.uint8), speed, np.zeros(SHAPE, np.uint8)], axis=2)
        frame_HWC[150:270, 180:330] = jet_HWC[150:270, 180:330]
    return clip_THWC


def share_covered(pixels: np.ndarray, plain: np.ndarray, folder: Path, photometric: str | None = None) -> float:
    """Of the strokes' pixels, how many are black in the written file."""
    dataset = echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)])
    if photometric == "RGB":
        set_native(dataset, pixels, "RGB")
    if photometric == "YBR_FULL":
        ybr = [cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] for frame in pixels]
        set_native(dataset, np.stack(ybr), "YBR_FULL")
    result = pixel_array(written(run(dataset, folder), folder))
    ink = (np.abs(pixels.astype(int) - plain) > 60).any(axis=3)
    assert ink.any()
    return float((result.max(axis=3)[ink] <= 2).mean())


@pytest.mark.parametrize("photometric", [None, "RGB", "YBR_FULL"])
@pytest.mark.parametrize("colour", [RED, BLUE], ids=["red", "blue"])
def test_case_14_text_in_colour_over_the_scan_is_masked(
    tmp_path: Path, colour: tuple[int, int, int], photometric: str | None
) -> None:
    plain = tissue()
    assert share_covered(with_name(plain, colour), plain, tmp_path, photometric) > 0.9


def test_case_14_grey_text_over_flow_shows_in_the_least_of_its_colours() -> None:
    pixels = with_name(flow(), GREY, at_xy=(190, 210))

    class Clip:
        frames = pixels

        def blacken(self, mask: Mask) -> search.Blocks:
            raise NotImplementedError

        def frame(self, number: int) -> np.ndarray:
            return pixels[number].max(axis=2)

        def colours(self, number: int) -> np.ndarray:
            return pixels[number]

    mask = Mask((Box(*BOX),))
    found = text.search(pixels.max(axis=3), mask)
    assert search._coloured(found, Clip(), mask)[25:27, 25:37].all()


def test_flow_without_text_is_left_as_it_is(tmp_path: Path) -> None:
    pixels = fan()
    pixels[:, 120:220, 180:300] = flow()[:, 150:250, 180:300]
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region((32, 32, 336, 448))]), tmp_path)
    assert "text-masked" not in outcome.flags


@pytest.mark.parametrize("named", [True, False])
def test_a_still_with_text_in_colour_is_held_and_one_with_flow_is_not(tmp_path: Path, named: bool) -> None:
    still = flow(frames=1)
    pixels = with_name(still, BLUE, at_xy=(120, 310)) if named else still
    dataset = echo(SequenceOfUltrasoundRegions=[region(BOX)])
    set_jpeg(dataset, pixels)
    assert run(dataset, tmp_path).reason == ("text-in-still" if named else None)


@pytest.mark.parametrize(("green", "one"), [(30, True), (200, False)])
def test_letters_are_of_one_hue_and_flow_is_not(green: int, one: bool) -> None:
    picture = np.zeros((16, 64, 3), np.uint8)
    picture[..., 0] = 230
    picture[..., 1] = np.linspace(0, green, 64).astype(np.uint8)
    group_HW = np.ones((2, 8), bool)
    saturation_HW = picture.max(axis=2) - picture.min(axis=2)
    assert search._is_one_hue(picture, saturation_HW, group_HW) == one


def test_case_14_faint_letters_beside_the_fan_are_masked(tmp_path: Path) -> None:
    plain = fan()
    pixels = with_name(plain, (26, 26, 26), at_xy=(40, 60))
    dataset = echo(pixels, SequenceOfUltrasoundRegions=[region((32, 32, 336, 448))])
    result = pixel_array(written(run(dataset, tmp_path), tmp_path))
    ink = (np.abs(pixels.astype(int) - plain) > 15).any(axis=3)
    assert result.max(axis=3)[ink].max() <= 2
