"""DICOMweb of the gateway: what is stored, found and returned, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient

from echoplane.tokens import Role, change_tokens, new_token
from serving.gateway import web
from serving.gateway.settings import GatewaySettings
from serving.gateway.store import Store
from tests import dicom_files
from tests.gateway_process import make_study

TYPE = 'multipart/related; type="application/dicom"; boundary={}'
STUDIES = "/dicomweb/studies"


class Sites:
    """An app with two sites; `call` sends as one of them."""

    def __init__(self, folder: Path) -> None:
        self.store, self._tokens = Store(folder / "store"), folder / "tokens.json"
        titles = {"LAKE": "lakeside", "HILL": "hillside"}
        settings = GatewaySettings(callers=("A",), ae_titles=titles, http_token_file=str(self._tokens))
        self._client = TestClient(web.build(self.store, settings), raise_server_exceptions=False)
        self._headers = {site: self._token(site, "predict") for site in ("lakeside", "hillside", "elsewhere")}
        self._headers["metrics"] = self._token("lakeside", "operate")

    def _token(self, site: str, role: Role) -> dict[str, str]:
        token, entry = new_token(f"{site}-{role}", site, (role,))
        change_tokens(self._tokens, add=entry)
        return {"Authorization": f"Bearer {token}"}

    def get(self, path: str, site: str = "lakeside"):
        return self._client.get(path, headers=self._headers.get(site, {}))

    def post(self, body: bytes, path: str = STUDIES, site: str = "lakeside", content_type: str = TYPE.format("edge")):
        headers = {"Content-Type": content_type, **self._headers.get(site, {})}
        return self._client.post(path, content=body, headers=headers)


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    made = Sites(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    return make_study(tmp_path / "study", 3, frames=4)


def body(*contents: bytes, boundary: str = "edge") -> bytes:
    parts = [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + one + b"\r\n" for one in contents]
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


@pytest.mark.parametrize("boundary", ["edge", '"edge"'], ids=["unquoted", "quoted"])
@pytest.mark.parametrize("before", [b"", b"\r\n"], ids=["at-once", "after-a-line-break"])
def test_instances_are_stored_and_named_in_the_response(
    sites: Sites, study: list[Path], boundary: str, before: bytes
) -> None:
    response = sites.post(before + body(*(path.read_bytes() for path in study)), content_type=TYPE.format(boundary))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    said = pydicom.Dataset.from_json(response.text)
    sources = [pydicom.dcmread(path) for path in study]
    uids = [item.ReferencedSOPInstanceUID for item in said.ReferencedSOPSequence]
    assert uids == [source.SOPInstanceUID for source in sources]
    assert said.RetrieveURL == f"{STUDIES}/{sources[0].StudyInstanceUID}"
    assert len(sites.store.find("lakeside")) == 3


def test_of_a_mixed_request_what_can_be_stored_is_stored_and_each_failure_has_its_reason(
    sites: Sites, study: list[Path]
) -> None:
    good, other = study[0].read_bytes(), pydicom.dcmread(study[0])
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(study[0])
    response = sites.post(body(good, study[0].read_bytes(), b"no DICOM"))
    assert response.status_code == 202
    said = pydicom.Dataset.from_json(response.text)
    assert [item.FailureReason for item in said.FailedSOPSequence] == [0xC111]
    assert [item.FailureReason for item in said.OtherFailuresSequence] == [0xA900]
    assert sites.post(body(b"no DICOM")).status_code == 409
    assert not any(planted in response.text for planted in dicom_files.PLANTED)
    assert not list(sites.store.incoming.iterdir())


def test_an_instance_of_another_study_than_the_address_is_refused(sites: Sites, study: list[Path]) -> None:
    response = sites.post(body(study[0].read_bytes()), f"{STUDIES}/1.2.3")
    assert response.status_code == 409
    assert sites.store.find("lakeside") == []


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (body(b"x"), "application/json", 415),
        (body(b"x"), 'multipart/related; type="application/dicom+xml"; boundary=edge', 415),
        (body(b"x"), 'multipart/related; type="application/dicom"', 400),
        (body(b"x"), TYPE.format("e" * 201), 400),
        (body(b"x")[:-8], TYPE.format("edge"), 400),
        (b"nothing", TYPE.format("edge"), 400),
        (b"", TYPE.format("edge"), 400),
        (b"--edge\r\n" + b"A" * 100_000, TYPE.format("edge"), 400),
    ],
    ids=["json", "xml", "no-boundary", "long-boundary", "cut-off", "no-part", "empty", "long-header"],
)
def test_a_body_that_is_not_multipart_dicom_is_refused_and_leaves_nothing(
    sites: Sites, content: bytes, content_type: str, status: int
) -> None:
    assert sites.post(content, content_type=content_type).status_code == status
    assert not list(sites.store.incoming.iterdir())


def test_studies_are_found_by_patient_date_and_modality_and_read_back_byte_by_byte(
    sites: Sites, study: list[Path]
) -> None:
    sites.post(body(*(path.read_bytes() for path in study)))
    for query in (
        f"PatientID={dicom_files.PATIENT_ID}",
        "PatientName=zyx*",
        "StudyDate=20260101-20260131",
        "ModalitiesInStudy=US",
        "00100020=ID-*",
    ):
        (found,) = sites.get(f"{STUDIES}?{query}").json()
        assert found["00201208"]["Value"] == [3], query
    for query in ("PatientID=other", "StudyDate=20260201-", "ModalitiesInStudy=MR", "offset=1"):
        assert sites.get(f"{STUDIES}?{query}").status_code == 204, query
    for query in ("Comment=x", "limit=-1", "limit=ten"):
        assert sites.get(f"{STUDIES}?{query}").status_code == 400, query
    source = pydicom.dcmread(study[1])
    series = f"{STUDIES}/{source.StudyInstanceUID}/series/{source.SeriesInstanceUID}"
    assert len(sites.get(f"{STUDIES}/{source.StudyInstanceUID}/series").json()) == 1
    assert len(sites.get(f"{series}/instances").json()) == 3
    instance = f"{series}/instances/{source.SOPInstanceUID}"
    assert study[1].read_bytes() in sites.get(instance).content
    (metadata,) = sites.get(f"{instance}/metadata").json()
    assert metadata["00080018"]["Value"] == [source.SOPInstanceUID]
    assert "7FE00010" not in metadata
    second = sites.get(f"{instance}/frames/2").content
    size = len(source.PixelData) // 4
    assert source.PixelData[size : 2 * size] in second
    assert source.PixelData[:size] not in second
    assert sites.get(f"{instance}/frames/5").status_code == 404
    assert sites.get(f"{instance}/frames/x").status_code == 400
    assert sites.get(f"{instance}/frames/1,2,01").status_code == 400, "a file's size bounds the answer"
    assert sites.get(f"{series}/instances/1.2.3").status_code == 404


def test_damaged_files_that_were_stored_never_fail_a_search_or_a_retrieval(sites: Sites, tmp_path: Path) -> None:
    rng, kept = np.random.default_rng(0), 0
    for path in make_study(tmp_path / "damaged", 40, frames=2):
        content = bytearray(path.read_bytes())
        for position in rng.integers(400, 1400, 6):
            content[position] = rng.integers(256)
        kept += sites.post(body(bytes(content))).status_code == 200
    assert kept >= 5
    assert sites.get(STUDIES).status_code == 200
    for one in sites.store.find("lakeside"):
        series = f"{STUDIES}/{one.study_uid}/series/{one.series_uid}/instances"
        paths = (
            series,
            f"{series}/{one.sop_uid}",
            f"{series}/{one.sop_uid}/metadata",
            f"{series}/{one.sop_uid}/frames/1",
        )
        assert {sites.get(path).status_code for path in paths} <= {200, 404, 422}


def test_a_site_sees_its_own_studies_alone(sites: Sites, study: list[Path]) -> None:
    sites.post(body(study[0].read_bytes()))
    uid = pydicom.dcmread(study[0]).StudyInstanceUID
    assert sites.get(STUDIES, "hillside").status_code == 204
    assert sites.get(f"{STUDIES}/{uid}", "hillside").status_code == 404
    assert sites.get(f"{STUDIES}/{uid}/metadata", "hillside").status_code == 404
    assert sites.get(STUDIES, "metrics").status_code == 403, "who reads metrics reads no patient"
    assert sites.get(STUDIES, "nobody").status_code == 401
    assert sites.post(body(study[0].read_bytes()), site="nobody").status_code == 401
    assert sites.post(body(study[0].read_bytes()), site="elsewhere").status_code == 403
