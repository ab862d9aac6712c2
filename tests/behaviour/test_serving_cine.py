"""The service answers a cine MR: measures and masks over HTTP, beside or without the echo task."""

import base64
import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests import dicom_files
from tests.serving_process import serve
from tests.tiny_cine import beating_heart, make_tiny_cine_bundle

AFFINE = np.diag([1.4, 1.4, 9.0, 1.0])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory):
    bundle = make_tiny_cine_bundle(tmp_path_factory.mktemp("bundle"))
    settings = {"ECHOPLANE_BUNDLES": str(bundle)}
    with serve(tmp_path_factory.mktemp("service"), settings) as running, running.client() as client:
        yield client


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("cine") / "c.nii.gz"
    nibabel.save(nibabel.Nifti1Image(beating_heart()[0].transpose(3, 2, 1, 0), AFFINE), path)
    return path.read_bytes()


def mask_of(answer: dict) -> np.ndarray:
    content = gzip.decompress(base64.b64decode(answer["files"]["mask.nii.gz"]))
    image = nibabel.Nifti1Image.from_bytes(content)
    assert np.allclose(image.affine, AFFINE, atol=1e-6)
    return np.asarray(image.dataobj).transpose(3, 2, 1, 0)


@pytest.mark.parametrize("route", ["/v1/cmr-segmentation", "/v1/study"])
def test_a_cine_gets_measures_and_masks(service, cine: bytes, route: str) -> None:
    response = service.post(route, files={"file": cine})
    assert response.status_code == 200, response.text
    answer = response.json() if route != "/v1/study" else response.json()["files"][0]["answer"]
    labels = beating_heart()[1]
    assert answer["task"] == "cmr-segmentation"
    assert np.array_equal(mask_of(answer), labels)
    volume_ml = (labels[0] == 1).sum() * 1.4 * 1.4 * 9 / 1000
    assert answer["details"]["measures"]["lvedv_ml"] == pytest.approx(volume_ml, rel=1e-3)
    assert answer["details"]["flags"], "a heart without a right ventricle is not plausible"
    assert "Not a medical device" in answer["research_use"]


def test_an_unusable_cine_is_a_422_with_a_reason(service, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(beating_heart()[0][:1].transpose(3, 2, 1, 0), AFFINE), tmp_path / "c.nii.gz")
    response = service.post("/v1/cmr-segmentation", files={"file": (tmp_path / "c.nii.gz").read_bytes()})
    assert response.status_code == 422
    assert "one phase" in response.json()["detail"]


def test_an_echo_clip_is_told_that_nobody_answers_it_here(service) -> None:
    problem = json.loads(service.post("/v1/study", files={"file": dicom_files.jpeg_clip()}).text)["files"][0]["problem"]
    assert problem["status"] == 422
