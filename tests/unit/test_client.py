"""The Python client against the real app, and against servers that fail in known ways."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pydicom
import pytest

from echoplane.client import Answer, AsyncClient, Client, FileAnswer, ServiceError, clients
from echoplane.monitoring.feedback import read_feedback
from echoplane.settings import ServingSettings
from serving.api.http import app, schemas
from serving.api.models.slots import Slot
from serving.api.models.sources import FolderSource
from tests import dicom_files as dicom
from tests.tiny_bundle import make_tiny_bundle

TASK = "echo-view-video"
ADDRESS = "http://127.0.0.1:3000"


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slot]:
    slot = Slot(TASK, FolderSource(make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")), {})
    slot.refresh()
    yield slot
    slot.close()


@pytest.fixture
def transport(slot: Slot, tmp_path: Path) -> httpx.ASGITransport:
    return httpx.ASGITransport(app.build(app.Service({TASK: slot}, ServingSettings(prediction_log=str(tmp_path)))))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times that the client waits between tries; here it does not."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(clients.asyncio, "sleep", sleep)
    return waited


def test_answers_come_as_dicom_objects(transport: httpx.ASGITransport) -> None:
    with Client(ADDRESS, transport=transport) as client:
        content = client.dicom([dicom.jpeg_clip()])
        with pytest.raises(ServiceError, match="DICOM"):
            client.dicom([b"no picture"])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        reports = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist() if ".dcm" in name]
    assert [report.Modality for report in reports] == ["SR"]


def test_a_file_is_answered_explained_and_corrected(transport: httpx.ASGITransport, tmp_path: Path) -> None:
    path = tmp_path / f"{dicom.PATIENT}.dcm"
    path.write_bytes(dicom.jpeg_clip())
    with Client(ADDRESS, transport=transport) as client:
        answer = client.answer(path, TASK)
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.nearest(1)[0][1] == answer.confidence
        assert client.explain(path, TASK).label == answer.nearest()[0][0]
        client.feedback(answer, "a2c")
        assert [model["task"] for model in client.models()] == [TASK]
    (said,) = read_feedback(tmp_path, TASK)
    assert (said.request_id, said.label) == (answer.request_id, "a2c")


def test_both_clients_yield_a_studys_answers_in_order(transport: httpx.ASGITransport) -> None:
    files = [dicom.jpeg_clip(), b"not an image", dicom.grey_clip()]

    async def asked() -> list[FileAnswer]:
        async with AsyncClient(ADDRESS, transport=transport) as client:
            return [entry async for entry in client.study(files)]

    with Client(ADDRESS, transport=transport) as client:
        entries = list(client.study(files))
    assert [(entry.index, entry.answer is None) for entry in entries] == [(0, False), (1, True), (2, False)]
    assert entries[1].problem is not None
    assert entries[1].problem.status == 400
    others = asyncio.run(asked())
    assert [e.answer and e.answer.probabilities for e in others] == [
        e.answer and e.answer.probabilities for e in entries
    ]


def test_a_refusal_says_why_and_is_not_repeated(transport: httpx.ASGITransport, waits: list[float]) -> None:
    with Client(ADDRESS, transport=transport) as client, pytest.raises(ServiceError, match="file is not read") as e:
        client.answer(b"not an image", TASK)
    assert e.value.problem is not None
    assert (e.value.problem.status, waits) == (400, [])


def answering(
    respond: Callable[[int, httpx.Request], httpx.Response],
) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A double of a server: `respond(number of the request, request)`, and the requests that came."""
    came: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        came.append(request)
        return respond(len(came), request)

    return httpx.MockTransport(handle), came


def body() -> dict:
    return schemas.EXAMPLE_ANSWER


def test_a_busy_service_and_a_lost_connection_are_tried_again_with_the_same_key(waits: list[float]) -> None:
    def respond(number: int, _: httpx.Request) -> httpx.Response:
        if number == 1:
            return httpx.Response(429, headers={"retry-after": "7"}, json={})
        if number == 2:
            raise httpx.ReadError("reset")
        return httpx.Response(200, json=body())

    transport, came = answering(respond)
    with Client(ADDRESS, transport=transport) as client:
        assert client.answer(b"clip", TASK).label == "a4c"
    assert len({request.headers["idempotency-key"] for request in came}) == 1
    assert len(came) == 3
    assert 7 <= waits[0] <= 7.5
    assert 0 <= waits[1] <= 1
    with Client(ADDRESS, transport=transport) as client:
        client.answer(b"clip", TASK)
    assert came[3].headers["idempotency-key"] != came[0].headers["idempotency-key"]


def test_the_client_gives_up_after_its_tries(waits: list[float]) -> None:
    transport, came = answering(lambda *_: httpx.Response(503, json={}))
    with Client(ADDRESS, transport=transport, tries=3) as client, pytest.raises(ServiceError, match="503"):
        client.answer(b"clip", TASK)
    assert (len(came), len(waits)) == (3, 2)


def test_waits_grow_are_random_and_never_shorter_than_asked() -> None:
    for tried in range(1, 12):
        waited = [clients.wait_s(tried, None) for _ in range(50)]
        assert max(waited) <= min(clients.MAX_WAIT_S, clients.FIRST_WAIT_S * 2**tried)
        assert len(set(waited)) > 1 or tried > 7
    assert min(clients.wait_s(1, "60") for _ in range(50)) >= 60
    assert clients.wait_s(1, "Wed, 21 Oct 2026 07:28:00 GMT") <= 0.5


def test_a_study_that_ends_early_is_an_error_after_what_came() -> None:
    entry = json.dumps({"index": 0, "answer": body(), "problem": None}) + "\n"
    transport, _ = answering(lambda *_: httpx.Response(200, content=entry.encode()))
    came = []
    with Client(ADDRESS, transport=transport) as client, pytest.raises(ServiceError, match="after 1 entries"):
        came.extend(client.study([b"x", b"y"]))

    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield entry.encode()
            raise httpx.ReadError("reset")

    transport, _ = answering(lambda *_: httpx.Response(200, stream=Broken()))
    answers = Client(ADDRESS, transport=transport).study([b"x", b"y"])
    assert next(answers).index == 0
    with pytest.raises(ServiceError, match="cannot be reached"):
        next(answers)


def test_no_file_name_and_no_token_of_the_environment_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    path = tmp_path / f"{dicom.PATIENT}.dcm"
    path.write_bytes(b"clip")
    (transport, came), token = answering(lambda *_: httpx.Response(200, json=body())), "echoplane_x"
    with Client(ADDRESS, token=token, transport=transport) as client:
        client.answer(path, TASK)
    assert came[0].headers["authorization"] == f"Bearer {token}"
    assert dicom.PATIENT.encode() not in came[0].content
    assert b'filename="file"' in came[0].content


def test_the_clients_answer_has_the_fields_that_the_service_describes() -> None:
    theirs = set(schemas.AnswerBody.model_fields)
    assert theirs - set(Answer.model_fields) == {"code"}
    assert set(Answer.model_fields) <= theirs
    assert set(FileAnswer.model_fields) == set(schemas.FileBody.model_fields)
    assert Answer.model_validate(body()).title == "apical four chamber"
