"""The second look at the written pixels: what a first search that fails leaves is masked or held, never written."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from echoplane.deid import Policy, accept, search
from echoplane.deid.jpeg import Masker
from echoplane.deid.regions import Mask
from echoplane.deid.reread import between, others
from echoplane.deid.search import Images
from echoplane.deid.text import sample
from tests.unit.test_deid_builder import KEY, echo, frozen, region, run, set_native, written
from tests.unit.test_deid_regions import fan

BOX = (32, 32, 336, 448)


def blind(images: Images, mask: Mask) -> search.Searched:
    """A first search that finds nothing and says that all is well."""
    blocks = images.blacken(mask)
    return search.Searched(mask, moves=True, doubtful=False, unread=np.zeros(blocks.eighth_THW.shape[1:], bool))


def stubborn(images: Images, mask: Mask) -> search.Searched:
    """One that masks nothing either, whatever it is told."""
    return blind(images, Mask(mask.boxes))


def file(pixels: np.ndarray, native: bool) -> Dataset:
    dataset = echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)])
    if native:
        set_native(dataset, pixels, "RGB")
    return dataset


def named() -> np.ndarray:
    pixels = fan(frames=24)
    for frame in pixels:
        cv2.putText(frame, "ROSALINDE", (180, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    return pixels


def barred() -> np.ndarray:
    pixels = fan(frames=24)
    for frame in pixels:
        cv2.rectangle(frame, (40, 40), (140, 60), (200, 200, 200), -1)
    return pixels


PLACES = {"name": (named, np.s_[:, 186:200, 182:300]), "bar": (barred, np.s_[:, 40:60, 40:140])}


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize("native", [False, True], ids=["jpeg", "native"])
def test_case_14_what_the_first_search_missed_is_masked_on_the_second_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, what: str
) -> None:
    monkeypatch.setattr(search, "mask_text", blind)
    pixels, place = PLACES[what][0](), PLACES[what][1]
    outcome = run(file(pixels, native), tmp_path)
    assert "text-on-second-look" in outcome.flags
    black = pixel_array(written(outcome, tmp_path))[..., 0] <= 2
    ink = (pixels[..., 0] >= 200)[place]
    assert black[place][ink].mean() > 0.95
    assert not black[:, 230:300, 200:280].all(axis=0).any()


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize("native", [False, True], ids=["jpeg", "native"])
def test_case_14_what_no_mask_takes_away_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, what: str
) -> None:
    monkeypatch.setattr(search, "mask_text", stubborn)
    outcome = run(file(PLACES[what][0](), native), tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "text-in-pixels")
    assert not list((tmp_path / "out").rglob("dicom/**/*.dcm"))


def test_a_fan_without_text_passes_the_second_look(tmp_path: Path) -> None:
    assert run(echo(fan(frames=24), SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path).flags == ()


def test_the_second_look_sees_other_frames_than_the_first() -> None:
    assert not set(others(24)) & set(sample(24))
    assert others(3) == sample(3)


@pytest.mark.parametrize("frames", [2, 3, 8, 12, 24, 60, 500])
def test_what_the_second_look_finds_is_confirmed_in_every_frame_looked_at_within_its_span(frames: int) -> None:
    looked, confirmed = others(frames), between(frames)
    assert set(looked) <= set(confirmed) <= {*looked, *sample(frames)}
    assert (confirmed[0], confirmed[-1]) == (looked[0], looked[-1])


def test_colour_left_outside_the_mask_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blacken = Masker._blacken

    def only_luminance(self: Masker, layout: object, mask: Mask, space: int, parts: list[np.ndarray]) -> None:
        kept = [part.copy() for part in parts[1:]]
        blacken(self, layout, mask, space, parts)  # type: ignore[arg-type]
        for part, before in zip(parts[1:], kept, strict=True):
            part[:] = before

    pixels = fan()
    pixels[:, :24, :200, 0] = 255  # a red bar: black once its luminance is gone, but for its colour
    monkeypatch.setattr(Masker, "_blacken", only_luminance)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region(BOX)]), tmp_path)
    assert outcome.reason == "verify-pixels"


def test_case_39_colours_more_than_one_chroma_sample_from_the_mask_are_identical(tmp_path: Path) -> None:
    pixels = fan()
    pixels[:, 32:336, 32:64] = (250, 40, 20)  # strong colour at the mask's edge
    pixels[:, 32:336, 64:448, 2] //= 2
    dataset = echo(pixels, SequenceOfUltrasoundRegions=[region((32, 64, 336, 448))])
    before = list(generate_frames(dataset.PixelData, number_of_frames=len(pixels)))
    result = written(run(dataset, tmp_path), tmp_path)
    after = list(generate_frames(result.PixelData, number_of_frames=len(pixels)))
    for one, two in zip(before, after, strict=True):
        old, new = simplejpeg.decode_jpeg(one), simplejpeg.decode_jpeg(two)
        same = (old == new).all(axis=2)
        shows = new.max(axis=2) > 0
        inner = np.zeros(same.shape, bool)
        inner[34:334, 67:445] = True
        edge = cv2.dilate((~shows).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        assert same[inner & ~edge].all()


def test_what_a_person_has_accepted_is_not_searched_again(tmp_path: Path) -> None:
    held = run(frozen(), tmp_path)
    assert accept(held.input_digest, tmp_path / "out", KEY, Policy(), person="R. Reviewer").status == "written"
