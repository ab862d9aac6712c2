"""`POST /v1/dicom`: answers as DICOM objects, made by a process that is kept from everything but the files."""

import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import highdicom as hd
import numpy as np
import pydicom
import pytest

from echoplane.monitoring.prediction_log import Row
from echoplane.settings import ServingSettings
from serving.api.decoding import pool
from serving.api.models.slots import Slot
from serving.api.models.sources import FolderSource
from tests import dicom_files as dicom
from tests.serving_app import Asking, tiny_slot
from tests.tiny_cine import beating_heart, make_tiny_cine_bundle, slice_file


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Slot]]:
    folder = tmp_path_factory.mktemp("bundles")
    cine = Slot("cmr-segmentation", FolderSource(make_tiny_cine_bundle(folder / "cine")), {})
    cine.refresh()
    with tiny_slot(folder) as echo:
        yield {slot.task: slot for slot in (echo, cine)}
    cine.close()


@pytest.fixture(scope="module")
def ask(slots: dict[str, Slot], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    asking = Asking(slots, ServingSettings(prediction_log=str(tmp_path_factory.mktemp("log"))), host="127.0.0.1")
    yield asking
    asking.service.close()


def files_of(*contents: bytes) -> dict[str, list]:
    return {"files": [("file", (f"{dicom.PATIENT}.dcm", content)) for content in contents]}


def opened(content: bytes) -> tuple[dict[str, pydicom.Dataset], dict]:
    """Returns the DICOM objects of a zip by name, and its answers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    answers = json.loads(parts.pop("answers.json"))
    return {name: pydicom.dcmread(io.BytesIO(part)) for name, part in parts.items()}, answers


def of_patient(number: int, instance: int) -> bytes:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.PatientID, dataset.StudyInstanceUID = f"P{number}", f"1.2.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}.{instance}"

    return dicom.jpeg_clip(change=change)


def test_each_study_gets_one_report_of_its_own_views_and_the_rest_is_named(ask: Asking) -> None:
    contents = [of_patient(1, 1), of_patient(2, 1), b"not an image", of_patient(1, 2)]
    response = ask("POST", "/v1/dicom", **files_of(*contents))
    assert (response.status_code, response.headers["content-type"]) == (200, "application/zip")
    assert response.headers["echoplane-left-out"] == "1"
    objects, answers = opened(response.content)
    assert list(objects) == ["01-views.dcm", "02-views.dcm"]
    for report, patient, count in zip(objects.values(), ("P1", "P2"), (2, 1), strict=True):
        assert (report.Modality, report.PatientID, report.StudyInstanceUID[-1]) == ("SR", patient, patient[-1])
        groups = hd.sr.ComprehensiveSR.from_dataset(report).content.get_image_measurement_groups()
        referred = [group.source_images[0].referenced_sop_instance_uid for group in groups]
        assert referred == [f"1.2.{patient[-1]}.{instance + 1}" for instance in range(count)]
        assert report.SeriesDescription == "Echocardiography views, research use only"
    assert [entry["index"] for entry in answers["files"]] == [0, 1, 2, 3]
    assert answers["files"][2]["problem"]["type"].endswith("not-an-image")
    confidence = groups[0].get_measurements()[0].value
    assert confidence == round(100 * answers["files"][1]["answer"]["confidence"], 1)


def zip_of_a_cine(folder: Path, pictures_TZHW: np.ndarray) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for t, z in np.ndindex(*pictures_TZHW.shape[:2]):
            slice_file(folder, "slice", 9.0 * z, 40.0 * t, pictures_TZHW[t, z], PatientID="P1")
            target.write(folder / "slice", f"{t}-{z}")
    return archive.getvalue()


def test_a_cine_in_a_zip_becomes_segmentations_and_a_report(ask: Asking, tmp_path: Path) -> None:
    pictures_TZHW, labels_TZHW = beating_heart(phases=4, slices=3)
    response = ask("POST", "/v1/dicom", **files_of(zip_of_a_cine(tmp_path, pictures_TZHW)))
    objects, answers = opened(response.content)
    assert list(objects) == ["01-segmentation-ed.dcm", "02-segmentation-es.dcm", "03-report.dcm"]
    assert [one.Modality for one in objects.values()] == ["SEG", "SEG", "SR"]
    assert {one.PatientID for one in objects.values()} == {"P1"}
    answer = answers["files"][0]["answer"]
    assert answer["files"] == {}
    segmented = objects["01-segmentation-ed.dcm"].pixel_array
    assert (segmented > 0).sum() == (labels_TZHW[answer["details"]["ed_phase"]] > 0).sum()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
@pytest.mark.parametrize(("kind", "made"), [("echo", 1), ("cine MR", 3)])
def test_dciodvfy_finds_no_error_in_the_objects(ask: Asking, tmp_path: Path, kind: str, made: int) -> None:
    content = of_patient(1, 1) if kind == "echo" else zip_of_a_cine(tmp_path, beating_heart(phases=4, slices=3)[0])
    response = ask("POST", "/v1/dicom", **files_of(content))
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        paths = [Path(archive.extract(name, tmp_path)) for name in archive.namelist() if name.endswith(".dcm")]
    assert len(paths) == made
    for path in paths:
        checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        said = (checked.stderr + checked.stdout).splitlines()
        assert any(line.endswith(("SR", "Segmentation")) for line in said), said
        assert [line for line in said if line.startswith("Error")] == [], path.name


def test_a_file_without_a_header_is_answered_and_no_object_is_made_of_it(ask: Asking) -> None:
    png = cv2.imencode(".png", dicom.moving_disc(1)[0])[1].tobytes()
    alone = ask("POST", "/v1/dicom", **files_of(png))
    assert (alone.status_code, alone.json()["type"]) == (422, "urn:echoplane:problem:unusable-study")
    with_a_clip = ask("POST", "/v1/dicom", **files_of(png, of_patient(1, 1)))
    objects, answers = opened(with_a_clip.content)
    assert list(objects) == ["01-views.dcm"]
    left_out = answers["left_out"] + [entry["problem"]["detail"] for entry in answers["files"] if entry["problem"]]
    assert len(left_out) == 1
    assert with_a_clip.headers["echoplane-left-out"] == "1"


def test_a_second_answer_to_the_same_file_is_not_counted(ask: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = []
    monkeypatch.setattr(ask.service.prediction_log, "add", rows.append)

    def counted() -> list[str]:
        return [line for line in ask("GET", "/metrics").text.splitlines() if line.startswith("echoplane_answers_total")]

    before = counted()
    assert ask("POST", "/v1/dicom", **files_of(of_patient(1, 1))).status_code == 200
    assert (counted(), rows) == (before, [])
    assert ask("POST", "/v1/study", **files_of(of_patient(1, 1))).status_code == 200
    assert counted() != before
    assert len(rows) == 1


def test_a_decoder_that_was_taken_over_cannot_name_a_file_outside_the_zip(
    ask: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = pool._Lease.ask

    def hostile(self, request, descriptors=()):
        if "sizes" in request:
            return ("../../etc/passwd",), (np.zeros(4, np.uint8),), ()
        return honest(self, request, descriptors)

    monkeypatch.setattr(pool._Lease, "ask", hostile)
    refused = ask("POST", "/v1/dicom", **files_of(of_patient(1, 1)))
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:echoplane:problem:unusable-study")


def test_damaged_headers_give_objects_or_reasons_and_never_a_failure(ask: Asking) -> None:
    content = dicom.jpeg_clip(dicom.moving_disc(6, 64, 64))
    rng = np.random.default_rng(0)
    contents = [content]
    for _ in range(60):
        damaged = bytearray(content)
        for position in rng.integers(132, 1200, 3):
            damaged[position] = rng.integers(256)
        contents.append(bytes(damaged))
    response = ask("POST", "/v1/dicom", **files_of(*contents))
    assert response.status_code == 200, response.text
    objects, answers = opened(response.content)
    assert objects
    kinds = {entry["problem"]["type"].split(":")[-1] for entry in answers["files"] if entry["problem"]}
    assert kinds
    assert kinds <= {"not-an-image", "unsupported", "unusable-study", "too-large"}
    assert not [word for word in dicom.PLANTED if word in json.dumps(answers)]
