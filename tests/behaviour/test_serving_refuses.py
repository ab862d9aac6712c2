"""What the service refuses, and how: bad files, bad requests, too many; it lives on and tells nobody's name."""

import concurrent.futures
import contextlib
import re
import socket
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from benchmarks.hostile_files import damaged
from serving.http_protocol import HEADER_TIMEOUT_S
from tests import dicom_files as dicom
from tests.serving_checks import MAX_UPLOAD_MIB, TASK, assert_answer, assert_problem, send
from tests.serving_process import Running

PREFIX_BYTES = 132
"""Preamble and prefix of a DICOM file."""


def refused() -> dict[str, tuple[bytes, int, str]]:
    """What is sent, the status and the kind of the problem."""
    clip, disc_THW = dicom.jpeg_clip(), dicom.moving_disc()
    return {
        "text": (b"not an image", 400, "not-an-image"),
        "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(500), 400, "not-an-image"),
        "preamble alone": (clip[:132], 400, "not-an-image"),
        "half a file": (clip[: len(clip) // 2], 400, "not-an-image"),
        "a third of an uncompressed file": (dicom.grey_clip()[:150_000], 400, "not-an-image"),
        "no pixel data": (dicom.grey_clip(change=dicom.without("PixelData")), 400, "not-an-image"),
        "no rows": (dicom.grey_clip(change=dicom.without("Rows")), 400, "not-an-image"),
        "zero rows": (dicom.grey_clip(change=dicom.setting(Rows=0)), 400, "not-an-image"),
        "fewer than no frames": (dicom.jpeg_clip(change=dicom.setting(NumberOfFrames=-5)), 400, "not-an-image"),
        "more frames than there are": (dicom.jpeg_clip(change=dicom.setting(NumberOfFrames=99)), 400, "not-an-image"),
        "millions of frames": (dicom.jpeg_clip(change=dicom.setting(NumberOfFrames=2**31 - 1)), 413, "too-large"),
        "one frame": (dicom.jpeg_clip(disc_THW[:1]), 422, "unusable-study"),
        "unknown transfer syntax": (clip.replace(b"10008.1.2.4.50", b"10008.1.2.4.99"), 415, "unsupported"),
        "video transfer syntax": (dicom.jpeg_clip(change=_called_h264), 415, "unsupported"),
        "unknown SOP class": (clip.replace(b"5.1.4.1.1.3.1", b"5.1.4.1.1.9.1"), 415, "unsupported"),
    }


def _called_h264(dataset: dicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = dicom.UID("1.2.840.10008.1.2.4.102")


@pytest.mark.parametrize("name", refused())
def test_a_bad_file_is_refused_with_its_own_status(client: httpx.Client, name: str) -> None:
    data, status, kind = refused()[name]
    assert_problem(send(client, data), status, kind)


def test_a_jpeg_that_is_broken_in_the_middle_is_answered_or_refused_never_a_failure(client: httpx.Client) -> None:
    clip = dicom.jpeg_clip()
    for seed in range(10):
        broken = bytearray(clip)
        at = int(np.random.default_rng(seed).integers(len(clip) // 4, len(clip) - 2000))
        broken[at : at + 1500] = np.random.default_rng(seed).bytes(1500)
        response = send(client, bytes(broken))
        assert_answer(response) if response.status_code == 200 else assert_problem(response, 400, "not-an-image")


def test_a_deflated_bomb_is_refused_and_takes_little_memory(service: Running, client: httpx.Client) -> None:
    before_mib = service.memory_mib()
    bomb = dicom.deflated_bomb(1100)
    assert len(bomb) < 4 << 20
    assert_problem(send(client, bomb), 413, "too-large")
    assert service.memory_mib() < before_mib + 200


def test_two_hundred_random_damages_never_make_the_service_fail(service: Running, client: httpx.Client) -> None:
    """Bytes flipped, cut out or put in, mostly in the header, where most of the parsing is."""
    rng = np.random.default_rng(20_261_123)
    sources = [dicom.jpeg_clip(dicom.moving_disc(8, 48, 64)), dicom.grey_clip(dicom.moving_disc(8, 48, 64))]
    before_mib, statuses = service.memory_mib(), []
    for number in range(200):
        response = send(client, damaged(sources[number % 2], rng, PREFIX_BYTES))
        statuses.append(response.status_code)
        assert_answer(response) if response.status_code == 200 else assert_problem(response, response.status_code)
    assert set(statuses) <= {200, 400, 413, 415, 422}
    assert len(set(statuses)) > 2
    assert service.memory_mib() < before_mib + 300


def test_random_bytes_are_no_image(client: httpx.Client) -> None:
    rng = np.random.default_rng(1)
    for size in (1, 131, 132, 5000):
        assert_problem(send(client, rng.bytes(size)), 400, "not-an-image")
        assert_problem(send(client, bytes(128) + b"DICM" + rng.bytes(size)), 400, "not-an-image")


def test_requests_that_send_no_one_file_are_bad_requests(client: httpx.Client) -> None:
    clip = dicom.jpeg_clip()
    requests = {
        "empty body": {"content": b""},
        "empty raw body": {"content": b"", "headers": {"content-type": "application/dicom"}},
        "empty file": {"files": {"file": ("a.dcm", b"")}},
        "wrong field": {"files": {"image": ("a.dcm", clip)}},
        "an address": {"files": {"file": (None, "http://127.0.0.1:9/secret")}},
        "two files": {"files": [("file", ("a.dcm", clip)), ("file", ("b.dcm", clip))]},
        "a field beside it": {"files": {"file": ("a.dcm", clip), "patient": (None, dicom.PATIENT)}},
        "long text": {"files": {"file": (None, "x" * 100_000)}},
        "no boundary": {"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data"}},
        "broken form": {"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        "cut form": {
            "content": b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nDI',
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
    }
    for name, request in requests.items():
        response = client.post(TASK, **request)
        assert response.status_code == 400, (name, response.text)
        assert_problem(response, 400)


def test_nothing_but_a_form_or_dicom_is_read(client: httpx.Client) -> None:
    address = {"file": "http://127.0.0.1:9/secret"}
    assert_problem(client.post(TASK, json=address), 415, "unsupported-media-type")
    assert_problem(client.post(TASK, data=address), 415, "unsupported-media-type")


def test_a_body_over_the_limit_is_refused_whether_or_not_it_says_its_size(
    service: Running, client: httpx.Client
) -> None:
    before_mib = service.memory_mib()
    piece = bytes(1 << 20)

    def endless() -> Iterator[bytes]:
        for _ in range(MAX_UPLOAD_MIB + 40):
            yield piece

    raw = {"content-type": "application/dicom"}
    assert_problem(client.post(TASK, content=bytes((MAX_UPLOAD_MIB << 20) + 1), headers=raw), 413, "too-large")
    assert_problem(client.post(TASK, content=endless(), headers=raw), 413, "too-large")
    assert_problem(send(client, bytes((MAX_UPLOAD_MIB + 1) << 20)), 413, "too-large")
    assert service.memory_mib() < before_mib + 100


def test_unknown_paths_and_methods_get_problems_and_no_label_of_their_own(client: httpx.Client) -> None:
    for path in (f"/v1/{dicom.PATIENT}", "/nothing", "/v1/models/x", "/%3Cscript%3E"):
        assert_problem(client.get(path), 404, "not-found")
    assert_problem(client.post("/v1/echo-view-still", files={"file": ("a", b"x")}), 404, "not-found")
    for method, path, allowed in (("GET", TASK, "POST"), ("DELETE", "/v1/models", "GET, HEAD")):
        response = client.request(method, path)
        assert_problem(response, 405, "method")
        assert response.headers["allow"] == allowed, "E9"
    assert_problem(client.request("QUETZAL", "/v1/models"), 405, "method")
    exposed = client.get("/metrics").text
    assert set(re.findall(r'route="([^"]*)"', exposed)) <= {
        *("/v1/echo-view-video", "/v1/study", "/v1/models", "/metrics", "/docs", "/openapi.json", "other")
    }
    assert set(re.findall(r'method="([^"]*)"', exposed)) <= {"GET", "POST", "HEAD", "other"}
    assert "bentoml_service_request" not in exposed


@pytest.mark.parametrize("path", ["/v1/models", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_e9_head_answers_as_get_without_a_body(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_e9_a_trailing_slash_is_another_path(client: httpx.Client) -> None:
    assert_problem(client.get("/v1/models/"), 404, "not-found")
    assert_problem(client.post(f"{TASK}/", content=b"x"), 404, "not-found")


@pytest.mark.parametrize("path", ["/", "/schema.json", "/docs.json", "/livez", "/readyz", "/static_content/x"])
def test_s17_every_path_has_safe_headers_and_none_is_bentomls(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert response.status_code == (200 if path in ("/", "/livez", "/readyz") else 404)
    assert path != "/" or "echoplane" in response.text, "a page of BentoML's own"


def test_a_client_that_goes_away_or_wants_a_socket_does_no_harm(service: Running, client: httpx.Client) -> None:
    address = ("127.0.0.1", int(service.url.rpartition(":")[2]))
    head = (
        f"POST {TASK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\nContent-Length: 999999\r\n\r\n"
    )
    for _ in range(6):  # more than there are places
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(head.encode() + bytes(1000))
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    with service.client() as other:  # its connection is closed after the refusal
        assert other.get("/v1/models", headers=upgrade).status_code == 403
    assert_answer(send(client, dicom.jpeg_clip()))
    assert "Traceback" not in service.log


def test_s6_clients_that_send_slowly_keep_nobody_from_an_answer(service: Running, client: httpx.Client) -> None:
    """S6: forty clients stop in the middle of their bodies; the service answers four studies at once."""
    address = ("127.0.0.1", int(service.url.rpartition(":")[2]))
    head = (
        f"POST {TASK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\nContent-Length: 9999\r\n\r\nDI"
    )
    with contextlib.ExitStack() as slow:
        for _ in range(40):
            slow.enter_context(socket.create_connection(address, timeout=5)).sendall(head.encode())
        for _ in range(5):
            assert_answer(send(client, dicom.jpeg_clip()))


def test_s6_headers_that_are_never_complete_end_the_connection(service: Running, client: httpx.Client) -> None:
    address = ("127.0.0.1", int(service.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=HEADER_TIMEOUT_S + 10) as connection:
        start = time.monotonic()
        connection.sendall(f"POST {TASK} HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".encode())
        while time.monotonic() - start < HEADER_TIMEOUT_S - 2:
            connection.sendall(b"a")
            time.sleep(1)
        assert connection.recv(1000) == b""
        assert time.monotonic() - start < HEADER_TIMEOUT_S + 5
    assert client.get("/livez").status_code == 200


def test_e21_thirty_two_clients_at_once_are_nearly_all_answered(service: Running) -> None:
    data = dicom.jpeg_clip(dicom.moving_disc(8, 48, 64))

    def one(_: int) -> int:
        with service.client() as client:
            return send(client, data).status_code

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(one, range(32)))
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 28


def test_many_clients_at_once_get_answers_or_429_and_nothing_else(service: Running) -> None:
    clips = [dicom.jpeg_clip(dicom.moving_disc(seed=seed)) for seed in range(8)]

    def many(data: bytes) -> list[httpx.Response]:
        with service.client() as client:
            return [send(client, data) for _ in range(10)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(many, clips))
    assert {response.status_code for responses in seen for response in responses} <= {200, 429}
    assert any(response.status_code == 200 for responses in seen for response in responses)
    for clip, responses in zip(clips, seen, strict=True):  # an answer does not depend on what is answered beside it
        with service.client() as client:
            alone = send(client, clip).json()["probabilities"]
        assert all(r.json()["probabilities"] == alone for r in responses if r.status_code == 200)


def test_no_patient_in_log_or_metrics(service: Running, client: httpx.Client) -> None:
    """Sends a planted name in every place that a client can fill, then reads all that the service ever wrote."""
    hostile = dicom.setting(
        **dict.fromkeys(("Manufacturer", "ManufacturerModelName", "ImageType", "ProtocolName"), dicom.PATIENT),
        SpecificCharacterSet="ISO_IR 100",
        StudyDate="Quetzal",
        FrameTime="1",
        NumberOfFrames="8",
    )
    clip = dicom.jpeg_clip(change=hostile)
    send(client, clip, name=f"{dicom.PATIENT}.dcm")
    send(client, clip.replace(b"ISO_IR 100", b"Zyxwvut^QQ"))  # pydicom quotes an unknown character set in a warning
    headers = {"x-request-id": dicom.PATIENT_ID, "user-agent": dicom.PATIENT, "cookie": dicom.PATIENT}
    client.post(f"{TASK}?name={dicom.PATIENT}", files={"file": (dicom.PATIENT, b"x")}, headers=headers)
    client.get(f"/v1/models/{dicom.PATIENT}")
    client.post(TASK, files={dicom.PATIENT: (dicom.PATIENT, b"x")})
    written = service.log + client.get("/metrics").text
    assert not [word for word in dicom.PLANTED if word in written]
    assert "Traceback" not in service.log
