"""Synthetic studies on disk: valid DICOM, same seed same bytes, no view outside the fan, names burned in."""

import hashlib
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.uid import UID

from echoplane.errors import ConfigError
from echoplane.phantom import make_patient, scan_echo, write_clip, write_cohort, write_patient
from echoplane.phantom.cohort import acquisition_order
from echoplane.phantom.dicom import build
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.phantom.screen import write
from echoplane.phantom.styles import STYLES
from echoplane.study.views import by_code

TELLS_THE_VIEW = {"ViewCodeSequence", "PixelData", "LossyImageCompressionRatio"}
"""What may differ between two views of the same scan: the label, the picture, and how well the picture compresses."""


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_seed_gives_the_same_bytes_with_one_worker_or_two(tmp_path):
    seen = []
    write_cohort(
        tmp_path / "a", patients=2, seed=9, frames=1, workers=1, progress=lambda done, total: seen.append((done, total))
    )
    files = write_cohort(tmp_path / "b", patients=2, seed=9, frames=1, workers=2)
    assert seen == [(1, 2), (2, 2)]
    assert len(files) == 2 * len(VIEW_NAMES) == len(digests(tmp_path / "a"))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    write_patient(tmp_path / "c", 10, views=["a4c"], frames=1)
    assert not set(digests(tmp_path / "c").values()) & set(digests(tmp_path / "a").values())


def test_an_interrupted_cohort_goes_on_and_keeps_what_is_whole(tmp_path):
    first = write_patient(tmp_path, 5, views=["plax", "a4c"], frames=1)
    stamp = first[0].stat().st_mtime_ns
    (tmp_path / ".6.part").mkdir()
    (tmp_path / ".6.part" / "IM00001").write_bytes(b"cut off")
    again = write_patient(tmp_path, 5, views=["plax", "a4c"], frames=1)
    second = write_patient(tmp_path, 6, views=["plax"], frames=1)
    assert again == first
    assert first[0].stat().st_mtime_ns == stamp
    assert dcmread(second[0]).NumberOfFrames == 1
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name]


def test_a_folder_with_another_study_of_the_patient_is_refused(tmp_path):
    write_patient(tmp_path, 5, views=["plax"], frames=1)
    with pytest.raises(ConfigError, match="2 of 1"):
        write_patient(tmp_path, 5, views=["plax", "a4c"], frames=1)
    with pytest.raises(ConfigError, match="1 of 2"):
        write_patient(tmp_path, 5, views=["plax"], frames=2)


@pytest.mark.parametrize("style", STYLES)
def test_a_file_is_the_clip_as_a_machine_would_store_it(tmp_path, style):
    patient = make_patient(11)
    clip = scan_echo(patient, "a3c", 4, frames=6, style=style)
    uid = write_clip(clip, patient, tmp_path / "clip")
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]
    dataset = dcmread(tmp_path / "clip")

    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.3.1"
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == uid
    for value in (uid, dataset.StudyInstanceUID, dataset.SeriesInstanceUID):
        assert UID(value).is_valid
        assert value.startswith("2.25.")
    assert (dataset.Rows, dataset.Columns) == clip.rgb.shape[1:3] == (STYLES[style].height, STYLES[style].width)
    assert dataset.FrameIncrementPointer == 0x00181063
    assert float(dataset.EffectiveDuration) == pytest.approx(6 * float(dataset.FrameTime) / 1000, abs=1e-3)
    item = dataset.ViewCodeSequence[0]
    assert by_code(item.CodingSchemeDesignator, item.CodeValue).name == "a3c"
    assert dataset.BurnedInAnnotation == "YES"


@pytest.mark.parametrize("style", STYLES)
def test_every_frame_decodes_to_what_was_on_the_screen(style):
    patient = make_patient(12)
    clip = scan_echo(patient, "plax", 4, frames=4, style=style)
    dataset = build(clip, patient)
    for k, screen in enumerate(clip.rgb):
        jpeg = get_frame(dataset.PixelData, k, number_of_frames=4)
        start_of_frame = jpeg.index(b"\xff\xc0")
        sampling = [jpeg[start_of_frame + 11 + 3 * c] for c in range(3)]
        assert sampling == [0x21, 0x11, 0x11]
        decoded = simplejpeg.decode_jpeg(jpeg, colorspace="RGB")
        assert np.abs(decoded.astype(int) - screen).mean() < 4


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_tissue_region_encloses_the_fan_and_measures_it(style, seed):
    patient = make_patient(13)
    clip = scan_echo(patient, "a4c", seed, frames=1, style=style)
    regions = build(clip, patient).SequenceOfUltrasoundRegions
    tissue = [r for r in regions if (r.RegionSpatialFormat, r.RegionDataType) == (1, 1)]
    assert len(tissue) == 1
    box = tissue[0]
    inside = np.zeros_like(clip.sector_mask)
    inside[
        box.RegionLocationMinY0 : box.RegionLocationMaxY1 + 1, box.RegionLocationMinX0 : box.RegionLocationMaxX1 + 1
    ] = True
    # A pixel on the very edge may fall either way in float32.
    assert (clip.sector_mask != _fan(clip)).sum() <= 5
    assert not (clip.sector_mask & ~inside).any()
    assert (box.PhysicalUnitsXDirection, box.PhysicalUnitsYDirection) == (3, 3)
    deepest_row = np.nonzero(clip.sector_mask.any(axis=1))[0].max()
    apex_row = box.RegionLocationMinY0 + box.ReferencePixelY0
    assert (deepest_row - apex_row) * 10 * box.PhysicalDeltaY == pytest.approx(clip.optics.depth_mm, rel=0.01)
    traces = [r for r in regions if (r.RegionSpatialFormat, r.RegionDataType) == (4, 10)]
    assert len(traces) == STYLES[style].trace_region
    for trace in traces:
        assert trace.RegionLocationMinY0 > box.RegionLocationMaxY1


def _fan(clip) -> np.ndarray:
    """Where the fan must lie by its apex, depth and angle, on the whole screen."""
    rows, columns = np.mgrid[: clip.rgb.shape[1], : clip.rgb.shape[2]].astype(np.float32)
    down, right = rows - np.float32(clip.sector.apex_rc[0]), columns - np.float32(clip.sector.apex_rc[1])
    depth_mm = np.hypot(down, right) * clip.spacing_mm
    angle = np.abs(np.arctan2(right, down)) / np.float32(clip.optics.half_angle_rad)
    share = depth_mm / clip.optics.depth_mm
    return (share <= 1) & (share > 0.012) & (angle <= 1)


@pytest.mark.parametrize("seed", [1, 2])
def test_with_the_fan_blanked_all_views_are_the_same_screen(seed):
    """Twelve views of one scan: same mask, same pixels outside it, same header but for the label."""
    patient = make_patient(20 + seed)
    clips = {view: scan_echo(patient, view, seed, frames=2) for view in VIEW_NAMES}
    first = clips["plax"]
    headers = {view: _header(clip, patient) for view, clip in clips.items()}
    for view, clip in clips.items():
        assert np.array_equal(clip.sector_mask, first.sector_mask)
        assert np.array_equal(clip.rgb[:, ~clip.sector_mask], first.rgb[:, ~first.sector_mask])
        assert headers[view] == headers["plax"]
        assert view == "plax" or not np.array_equal(clip.rgb, first.rgb)


def _header(clip, patient) -> dict[str, str]:
    return {e.keyword or str(e.tag): str(e.value) for e in build(clip, patient) if e.keyword not in TELLS_THE_VIEW}


def test_the_place_of_a_view_in_the_study_is_left_to_chance():
    places = {view: [] for view in VIEW_NAMES}
    for seed in range(300):
        order = acquisition_order(seed, VIEW_NAMES)
        assert sorted(order) == sorted(VIEW_NAMES)
        for place, view in enumerate(order):
            places[view].append(place)
    # 300 draws of 0 to 11: standard error 0.2.
    assert all(abs(np.mean(p) - 5.5) < 0.8 for p in places.values())


def plain(text: str) -> str:
    """What the screen's font can show of a name; the letters without decomposition by hand."""
    for letter, spelt in {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ß": "ss"}.items():
        text = text.replace(letter, spelt)
    return "".join(c for c in unicodedata.normalize("NFKD", text) if ord(c) < 128).upper()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6])
def test_the_patient_of_the_header_is_burned_into_the_screen(style, seed):
    patient = make_patient(seed)
    clip = scan_echo(patient, "a4c", 3, frames=2, style=style)
    dataset = build(clip, patient)
    burned = [caption.text for caption in clip.captions]
    family, given = str(dataset.PatientName).split("^")
    assert f"{plain(family)}, {plain(given)}" in burned
    assert f"ID {dataset.PatientID}" in burned
    day = dataset.PatientBirthDate
    assert f"{day[6:]}.{day[4:6]}.{day[:4]} {dataset.PatientSex}" in burned
    assert f"HR {dataset.HeartRate} bpm" in burned
    assert plain(dataset.InstitutionName) in [text.upper() for text in burned]
    for caption in clip.captions:
        blank = np.full(clip.rgb.shape[1:], STYLES[style].background, np.uint8)
        write(blank, STYLES[style], caption)
        ink = (blank != STYLES[style].background).any(axis=-1)
        assert ink.sum() > 20
        assert not (ink & clip.sector_mask).any(), "text lies under the fan"
        for screen in clip.rgb:
            assert np.array_equal(screen[ink], blank[ink]), "a caption is covered or cut"


def test_some_names_need_unicode_and_survive_the_file(tmp_path):
    seed = next(s for s in range(100) if not make_patient(s).identity.name.isascii())
    patient = make_patient(seed)
    write_clip(scan_echo(patient, "plax", 1, frames=1), patient, tmp_path / "clip")
    dataset = dcmread(tmp_path / "clip")
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert str(dataset.PatientName) == patient.identity.name


def test_one_maker_hides_the_patient_in_private_tags():
    patient = make_patient(7)
    for name, style in STYLES.items():
        dataset = build(scan_echo(patient, "a2c", 1, frames=1, style=name), patient)
        private = " ".join(str(e.value) for e in dataset if e.tag.is_private)
        assert (patient.identity.patient_id in private) == style.private_tags
    assert sum(style.private_tags for style in STYLES.values()) == 1
