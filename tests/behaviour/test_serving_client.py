"""The Python client on a running service: what a test without a server cannot show."""

import time

import pytest

from echoplane.client import Client, ServiceError
from tests import dicom_files as dicom
from tests.serving_process import Running, free_port

FILES = 5


def test_answers_of_a_study_arrive_while_later_files_are_still_being_answered(service: Running) -> None:
    clip = dicom.jpeg_clip(dicom.moving_disc(60, 600, 800))
    with Client(service.url) as client:
        start_s, arrived_s = time.perf_counter(), []
        for entry in client.study([clip] * FILES):
            assert entry.answer is not None
            arrived_s.append(time.perf_counter() - start_s)
    assert len(arrived_s) == FILES
    assert arrived_s[-1] - arrived_s[0] > 0.15 * arrived_s[-1], "all answers came together at the end"


def test_a_study_that_its_reader_leaves_early_gives_its_place_back(service: Running) -> None:
    clip = dicom.jpeg_clip()
    for _ in range(6):
        with Client(service.url) as client:
            answers = client.study([clip] * FILES)
            next(answers)
            answers.close()
    with Client(service.url, tries=1) as client:
        assert len(list(client.study([clip] * 2))) == 2


def test_a_service_that_is_down_is_reported_without_its_address_being_asked_for_ever() -> None:
    start_s = time.perf_counter()
    with Client(f"http://127.0.0.1:{free_port()}", tries=2) as client, pytest.raises(ServiceError, match="be reached"):
        client.models()
    assert time.perf_counter() - start_s < 5
