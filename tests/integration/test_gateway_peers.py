"""The gateway with other people's archives and clients: Orthanc by C-STORE and STOW-RS, and dicomweb-client."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from tests import dicom_files
from tests.dicom_files import US_MULTIFRAME
from tests.gateway_process import ServiceDouble, answer, gateway, make_study
from tests.serving_process import free_port

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
FILES = 4


@dataclass(frozen=True)
class Orthanc:
    """An archive that is up."""

    url: str
    dicom_port: int

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}").raise_for_status().json()

    def post(self, path: str, content: Any) -> Any:
        response = httpx.post(f"{self.url}{path}", content=content, timeout=60)
        return response.raise_for_status().json()

    def reports(self) -> list[dict[str, Any]]:
        return [one for one in self.get("/series?expand") if one["MainDicomTags"]["Modality"] == "SR"]


@contextlib.contextmanager
def orthanc(folder: Path, gateway_dicom: int, gateway_http: int) -> Iterator[Orthanc]:
    """Orthanc on free ports, which knows the gateway as a modality and as a DICOMweb server."""
    http_port, dicom_port = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "Plugins": [str(PLUGIN)],
        "DicomModalities": {"gateway": ["ECHOPLANE", "127.0.0.1", gateway_dicom]},
        "DicomWeb": {"Enable": True, "Servers": {"gateway": [f"http://127.0.0.1:{gateway_http}/dicomweb/"]}},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    running = Orthanc(f"http://127.0.0.1:{http_port}", dicom_port)
    try:
        wait_for(lambda: bool(running.get("/system")))
        yield running
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for(happened: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if happened():
                return
        time.sleep(0.2)
    raise AssertionError(f"nothing happened within {timeout_s} s")


@pytest.mark.skipif(not Path(ORTHANC).exists() or not PLUGIN.exists(), reason="Orthanc with DICOMweb is not installed")
@pytest.mark.parametrize("by", ["c-store", "stow"])
def test_orthanc_sends_a_study_and_gets_its_report(tmp_path: Path, by: str) -> None:
    service = ServiceDouble([(200, {"files": [{"index": 0, "answer": answer()}]})] * FILES)
    files = make_study(tmp_path / "study", FILES, frames=2)
    ports = {"dicom_port": free_port(), "http_port": free_port()}
    with contextlib.closing(service), orthanc(tmp_path, *ports.values()) as archive:
        addresses = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.dicom_port}
        peer = {"name": "archive"} | (addresses if by == "c-store" else {"stow_url": f"{archive.url}/dicom-web"})
        settings = {"callers": ["ORTHANC"], "quiet_s": 2, "service_url": service.url, "peers": [peer], **ports}
        settings["storage_commitment"] = "true"
        with gateway(tmp_path, **settings) as running:
            for path in files:
                archive.post("/instances", path.read_bytes())
            (study,) = archive.get("/studies")
            known = [(US_MULTIFRAME, str(pydicom.dcmread(path).SOPInstanceUID)) for path in files]
            if by == "c-store":
                archive.post("/modalities/gateway/store", study)
                assert committed(archive, known) == ("Success", set())
                assert committed(archive, [*known, (US_MULTIFRAME, "1.2.3")]) == ("Failure", {"1.2.3"})
            else:
                archive.post("/dicom-web/servers/gateway/stow", json.dumps({"Resources": [study]}))
            wait_for(lambda: len(archive.reports()) == 1)
            (report,) = archive.reports()
            assert archive.get(f"/studies/{study}")["MainDicomTags"]["StudyDate"] == "20260102"
            assert report["ParentStudy"] == study, "it is filed in the study of the images"
            content = httpx.get(f"{archive.url}/instances/{report['Instances'][0]}/file").content
            (tmp_path / "report.dcm").write_bytes(content)
            assert not any(planted in running.log for planted in dicom_files.PLANTED)
    check_report(tmp_path / "report.dcm")


def committed(archive: Orthanc, instances: list[tuple[str, str]]) -> tuple[str, set[str]]:
    """The state of a storage commitment request that Orthanc makes, and the UIDs that the gateway has not stored."""
    request = {"DicomInstances": [list(pair) for pair in instances], "Timeout": 10}
    path = archive.post("/modalities/gateway/storage-commitment", json.dumps(request))["Path"]
    wait_for(lambda: archive.get(path)["Status"] != "Pending")
    said = archive.get(path)
    return said["Status"], {one["SOPInstanceUID"] for one in said["Failures"]}


def check_report(path: Path) -> None:
    """What dcmtk and dicom3tools say of a report."""
    if shutil.which("dsrdump"):
        shown = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=True).stdout
        assert shown.count('"Image View")=(399214001,SCT,"Apical four chamber")') == FILES
    if shutil.which("dciodvfy"):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout


def test_dicomweb_client_stores_finds_and_reads_back(tmp_path: Path) -> None:
    web = pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed")
    files = make_study(tmp_path / "study", FILES, frames=2)
    with gateway(tmp_path, quiet_s=3600) as running:
        client = web.DICOMwebClient(f"http://127.0.0.1:{running.http_port}/dicomweb")
        sources = [pydicom.dcmread(path) for path in files]
        said = client.store_instances(sources)
        assert len(said.ReferencedSOPSequence) == FILES
        (found,) = client.search_for_studies(search_filters={"PatientID": dicom_files.PATIENT_ID})
        assert found["00201208"]["Value"] == [FILES]
        uid = str(sources[0].StudyInstanceUID)
        assert len(client.search_for_instances(study_instance_uid=uid)) == FILES
        read = {str(one.SOPInstanceUID): one.PixelData for one in client.retrieve_study(uid)}
        assert read == {str(one.SOPInstanceUID): one.PixelData for one in sources}
        assert len(client.retrieve_study_metadata(uid)) == FILES
        frames = client.retrieve_instance_frames(uid, sources[0].SeriesInstanceUID, sources[0].SOPInstanceUID, [1, 2])
        assert b"".join(frames) == sources[0].PixelData
