"""What can't be measured gets a reason, the same on the command line and over HTTP."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from benchmarks import sunnybrook
from echoplane import cli
from tests import dicom_files
from tests.serving_process import serve
from tests.tiny_cine import beating_heart, make_tiny_cine_bundle, slice_file

AFFINE = np.diag([1.4, 1.4, 9.0, 1.0])


def nifti(voxels_TZHW: np.ndarray) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        nibabel.save(nibabel.Nifti1Image(voxels_TZHW.transpose(3, 2, 1, 0), AFFINE), folder / "sa.nii.gz")

    return write


def series(phases: int = 3, slices: int = 4, at_mm: tuple[float, ...] = (0, 9, 18, 27), **changes) -> Callable:
    def write(folder: Path) -> None:
        pictures, _ = beating_heart(phases=3)
        for t in range(phases):
            for z in range(slices):
                slice_file(folder, f"{t}-{z}.dcm", at_mm[z], 40.0 * t, pictures[t, z].astype(np.uint16), **changes)

    return write


def colour_pictures(folder: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    for z in range(3):
        for t in range(2):
            cv2.imwrite(str(folder / f"P-IM-0001-{20 * z + t + 1:04d}.png"), picture)


def ultrasound(folder: Path) -> None:
    (folder / "clip.dcm").write_bytes(dicom_files.jpeg_clip())


HEART = beating_heart(phases=3)[0]
UNUSABLE = {
    "one phase, NIfTI": (nifti(HEART[:1]), "one phase"),
    "one phase, DICOM": (series(phases=1), "one phase each"),
    "one slice, NIfTI": (nifti(HEART[:, :1]), "1 slice"),
    "one slice, DICOM": (series(slices=1), "1 slice"),
    "mixed spacing": (series(at_mm=(0, 9, 16, 27)), "apart"),
    "no place": (series(ImagePositionPatient=None), "where its slice lies"),
    "three channels, DICOM": (series(SamplesPerPixel=3), "3 colour channels"),
    "three channels, PNG": (colour_pictures, "3 different colour channels"),
    "no picture in it": (nifti(np.full_like(HEART, 7)), "same value"),
    "an ultrasound clip": (ultrasound, "MR image"),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_cine_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, bundle: Path):
    settings = {"ECHOPLANE_BUNDLES": str(bundle)}
    with serve(tmp_path_factory.mktemp("service"), settings) as running, running.client() as client:
        yield client


def zipped(folder: Path) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for path in folder.iterdir():
            packed.write(path, f"study/{path.name}")
    return archive.getvalue()


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_study_says_why_on_the_command_line_and_over_http(
    name: str, tmp_path: Path, bundle: Path, service, capsys: pytest.CaptureFixture[str]
) -> None:
    (write, word), cine = UNUSABLE[name], tmp_path / "cine"
    cine.mkdir()
    write(cine)
    assert cli.main(["measure", str(cine), "--out", str(tmp_path / "out"), "--bundle", str(bundle)]) == 3
    said = capsys.readouterr().err.strip()
    assert word in said
    assert not (tmp_path / "out").exists()
    response = service.post("/v1/cmr-segmentation", files={"file": zipped(cine)})
    assert response.status_code == 422
    assert response.json()["detail"] == said.removeprefix("echoplane measure: ")


def test_a_zip_of_a_series_without_pixel_spacing_gets_a_ratio_and_no_millilitre(tmp_path: Path, service) -> None:
    series(PixelSpacing=None)(tmp_path)
    answer = service.post("/v1/study", files={"file": zipped(tmp_path)}).json()["files"][0]["answer"]
    assert answer["details"]["measures"]["lvedv_ml"] is None
    assert 0 < answer["details"]["measures"]["lvef_percent"] < 100
    assert answer["details"]["curves"]["lv-cavity"]["unit"] == "pixels"
    assert any("no millilitres" in warning for warning in answer["warnings"])


def test_a_folder_of_the_sunnybrook_set_is_measured_on_its_own_grid(tmp_path: Path, bundle: Path) -> None:
    if not sunnybrook.ROOT.exists():
        pytest.skip("the Sunnybrook set is not beside the checkout")
    patient = sunnybrook.patients()[0]
    cine = tmp_path / "one"
    cine.mkdir()
    for path in (sunnybrook.ROOT / "Images").rglob(f"{patient.name}-IM-*.png"):
        (cine / path.name).write_bytes(path.read_bytes())
    assert cli.main(["measure", str(cine), "--out", str(tmp_path / "out"), "--bundle", str(bundle)]) == 0
    assert nibabel.load(tmp_path / "out" / "mask.nii.gz").shape == patient.cine.voxels_TZHW.shape[::-1]
