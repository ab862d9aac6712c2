"""What every answer and every problem of the service must be, whatever was sent."""

import httpx
import pytest

from tests import dicom_files as dicom

TASK = "/v1/echo-view-video"
MAX_UPLOAD_MIB = 64
"""Of the service under test."""


def send(client: httpx.Client, data: bytes, path: str = TASK, name: str = "clip.dcm") -> httpx.Response:
    return client.post(path, files={"file": (name, data)})


def assert_problem(response: httpx.Response, status: int, kind: str | None = None) -> dict:
    """A problem body of `status`, complete and without a trace of the patient."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "request_id"}
    assert body["status"] == status
    assert body["type"].startswith("urn:echoplane:problem:")
    assert kind is None or body["type"] == f"urn:echoplane:problem:{kind}"
    assert body["request_id"] == response.headers["x-request-id"]
    assert_no_patient(response)
    return body


def assert_answer(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert sum(body["probabilities"].values()) == pytest.approx(1)
    assert body["confidence"] == max(body["probabilities"].values())
    assert body["label"] in {None, *body["probabilities"]}
    assert {"upload", "read", "preprocess", "inference", "interpret", "total"} <= set(body["timings_ms"])
    assert "Not a medical device" in body["research_use"]
    assert_no_patient(response)
    return body


def assert_no_patient(response: httpx.Response) -> None:
    seen = response.text + str(response.headers)
    assert not [word for word in dicom.PLANTED if word in seen]
