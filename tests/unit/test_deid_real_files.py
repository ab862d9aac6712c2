"""Real files: each is written, quarantined or refused with the reason that its kind deserves, and none breaks it."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array

from echoplane.deid import Outcome, Policy, deidentify_file
from tests.unit.test_deid_builder import KEY

SHARED = Path(__file__).parents[3] / "shared" / "data"

EXPECTED = {
    "examples_ybr_color.dcm": None,
    "examples_palette.dcm": "region-out-of-bounds",
    "examples_rgb_color.dcm": "text-in-still",
    "examples_jpeg2k.dcm": None,
    "ExplVR_BigEnd.dcm": "region-missing",
    "examples_overlay.dcm": None,
    "nested_priv_SQ.dcm": "sop-class",
    "image_dfl.dcm": "secondary-capture",
    "no_meta.dcm": "not-dicom",
    "MR_truncated.dcm": "truncated",
    "reportsi.dcm": "report",
    "waveform_ecg.dcm": None,
    "MR_small.dcm": None,
    "MR_small_bigendian.dcm": None,
    "MR_small_implicit.dcm": None,
    "DICOMDIR": "dicomdir",
}


def run(path: Path, folder: Path) -> Outcome:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return deidentify_file(path, folder / "out", KEY, Policy())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_pydicom_gets_the_answer_of_its_kind(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} is not in this pydicom")
    assert run(Path(str(path)), tmp_path).reason == EXPECTED[name]


def test_the_names_beside_a_real_still_are_black_and_its_scan_is_unchanged(tmp_path: Path) -> None:
    source = Path(str(get_testdata_file("examples_jpeg2k.dcm", download=False)))
    outcome = run(source, tmp_path)
    assert outcome.flags == ("region-of-device", "does-not-move")
    before, after = (pixel_array(dcmread(path)) for path in (source, tmp_path / "out" / str(outcome.output)))
    assert before[:100].max() > 200  # BAPTIST MED CTR, an id, a date
    scan = np.s_[108:338, 46:592]
    assert np.array_equal(before[scan], after[scan])
    after[scan] = 0
    assert after.max() == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("echo/fo-dicom__DIRW0007__A4C_65f_jpegbaseline_ybr422.dcm", None),
        ("echo/dicomParser__IM00001__colourDoppler_8f_implicitLE_RGB.dcm", None),
        ("echo/dicomParser__IM00001__colourDoppler_8f_jpegbaseline_fragmented_noBOT.dcm", None),
        ("echo/dcm4che__US-PAL-8-10x-echo__PLAX_colourDoppler_10f_RLE_palette.dcm", None),
        ("echo/pydicom-data__color-pl__TEE_colourDoppler_RGB_planar1.dcm", None),
        ("cmr/emri_small.dcm", None),
        ("cmr/emri_small_RLE.dcm", None),
        ("cmr/emri_small_jpeg_2k_lossless.dcm", None),
    ],
)
def test_a_real_echo_or_cmr_gets_the_answer_of_its_kind(tmp_path: Path, name: str, reason: str | None) -> None:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not beside the repository, under ../shared/data")
    assert run(SHARED / name, tmp_path).reason == reason


def test_the_captions_of_a_real_apical_clip_are_black_and_its_heart_is_unchanged(tmp_path: Path) -> None:
    source = SHARED / "echo/fo-dicom__DIRW0007__A4C_65f_jpegbaseline_ybr422.dcm"
    if not source.exists():
        pytest.skip("the clip is not beside the repository, under ../shared/data")
    outcome = run(source, tmp_path)
    assert outcome.flags == ("text-masked", "scan-blackened")
    before = pixel_array(dcmread(source))[:, :, :, 0]
    after = pixel_array(dcmread(tmp_path / "out" / str(outcome.output)))[:, :, :, 0]
    captions = np.s_[:, 48:140, 430:548]  # probe, id, institution, gain, heart rate
    assert before[captions].max() > 200
    assert after[captions].max() < 60
    heart = np.s_[:, 120:360, 200:380]
    assert np.array_equal(before[heart], after[heart])
