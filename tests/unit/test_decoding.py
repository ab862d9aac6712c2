"""S4: files are read and decoded in processes that are limited, can be killed, and are replaced."""

import contextlib
import io
import json
import mmap
import os
import re
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openjpeg
import pytest
from pydicom.uid import JPEG2000Lossless

from echoplane.confinement import calls
from echoplane.errors import NotAnImage, TooLarge, UnusableStudy
from echoplane.study import codecs
from echoplane.study.cine import Cine
from echoplane.study.dicom import read_dicom
from echoplane.study.limits import Limits
from echoplane.study.reading import read_study
from echoplane.study.study import Pixels, Study
from serving.api.decoding import pool, process, wire
from serving.api.decoding.deadline import Deadline, DeadlineReached
from serving.api.decoding.pool import Decoders
from tests import dicom_files as dicom

MAX_FILE_BYTES = 64 << 20


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    decoders = Decoders(1, MAX_FILE_BYTES)
    decoders.start()
    with contextlib.suppress(NotAnImage), opened(decoders, b"no image"):
        pass  # the readers are loaded now
    yield decoders
    decoders.close()


def opened(decoders: Decoders, data: bytes, limit_s: float = 60) -> contextlib.AbstractContextManager[Study]:
    return decoders.reading(io.BytesIO(data), Deadline.after(limit_s), "1")


def pid(decoders: Decoders) -> int:
    """Returns the process id of the one decoder, which is idle."""
    (decoder,) = decoders._idle
    assert decoder._pid is not None
    return decoder._pid


def slow_jpeg2000(side: int = 4096, frames: int = 8) -> bytes:
    """A file of kilobytes that takes seconds to decode."""
    encoded = openjpeg.encode(np.zeros((side, side), np.uint8), use_mct=False)
    data = dicom.encoded_clip([encoded] * frames, (frames, side, side), JPEG2000Lossless)
    assert len(data) < 200_000
    return data


def test_s4_a_study_is_the_same_as_without_a_process(decoders: Decoders) -> None:
    data = dicom.jpeg_clip()
    alone = read_study(data).only
    with opened(decoders, data) as study:
        assert replace(study.only, frames=alone.frames) == alone
        asked = ([3, 0, 3], 50)
        assert np.array_equal(study.only.frames.grey(*asked), alone.frames.grey(*asked))


def test_s4_a_file_on_disk_is_read_without_a_copy_in_the_service(decoders: Decoders, tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(dicom.jpeg_clip())
    with (tmp_path / "clip").open("rb") as file, decoders.reading(file, Deadline.after(60)) as study:
        assert study.only.digest == read_study(dicom.jpeg_clip()).only.digest


def test_s4_at_the_deadline_the_process_is_killed_and_the_next_file_is_read(decoders: Decoders) -> None:
    with opened(decoders, dicom.jpeg_clip()):
        pass
    data, before, start = slow_jpeg2000(), pid(decoders), time.monotonic()
    with pytest.raises(DeadlineReached), opened(decoders, data, limit_s=0.5) as study:
        study.only.frames.grey(range(8))
    assert time.monotonic() - start < 3
    with opened(decoders, dicom.jpeg_clip()) as study:
        assert study.only.frames.grey([0]).any()
    assert pid(decoders) != before
    while Path(f"/proc/{before}").exists():
        assert time.monotonic() - start < 20
        time.sleep(0.05)


def test_s4_a_file_that_ends_its_process_is_refused_and_nothing_else_is_disturbed(decoders: Decoders) -> None:
    with opened(decoders, dicom.jpeg_clip()) as study:
        os.kill(decoder_at_work(study), 9)
        with pytest.raises(UnusableStudy, match="ended the process"):
            study.only.frames.grey([0])
    with opened(decoders, dicom.jpeg_clip()) as study:
        assert study.only.frames.grey([0]).any()


def test_s4_a_file_that_takes_too_long_is_refused_long_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CPU_S", 0.5)
    limited, start = Decoders(1, MAX_FILE_BYTES), time.monotonic()
    try:
        with pytest.raises(UnusableStudy, match="memory or time"), opened(limited, slow_jpeg2000()) as study:
            study.only.frames.grey(range(8))
        assert time.monotonic() - start < 30
        for _ in range(2):
            with opened(limited, dicom.jpeg_clip()) as study:
                assert study.only.frames.grey([0]).any()
    finally:
        limited.close()


def test_s4_a_file_that_is_decoded_until_the_deadline_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LARGE_CPU_S", 0.05)
    limited = Decoders(1, MAX_FILE_BYTES)
    try:
        with opened(limited, dicom.jpeg_clip()):
            pass
        with pytest.raises(TooLarge, match="more than 1 s to decode"), opened(limited, slow_jpeg2000(), 1) as study:
            study.only.frames.grey(range(8))
    finally:
        limited.close()


def test_s4_a_decoder_that_works_long_makes_way_and_is_replaced(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LONG_S", 0.01)
    with opened(decoders, slow_jpeg2000(frames=1)) as study:
        before = decoder_at_work(study)
        study.only.frames.grey([0])
        assert os.getpriority(os.PRIO_PROCESS, before) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + pool.LOWER_BY)
    monkeypatch.undo()
    with opened(decoders, dicom.jpeg_clip()) as study:
        assert decoder_at_work(study) != before
        assert os.getpriority(os.PRIO_PROCESS, decoder_at_work(study)) == os.getpriority(os.PRIO_PROCESS, 0)


def test_s4_a_decoder_that_ended_while_idle_costs_no_file_its_answer(decoders: Decoders) -> None:
    with opened(decoders, dicom.jpeg_clip()):
        pass
    os.kill(pid(decoders), 9)
    time.sleep(0.1)
    with opened(decoders, dicom.jpeg_clip()) as study:
        assert study.only.frames.grey([0]).any()


def decoder_at_work(study: Study) -> int:
    frames: Any = study.only.frames
    return int(frames.lease._decoder._pid)


def test_s4_a_decoder_has_limits_and_neither_keys_nor_core_dumps(
    monkeypatch: pytest.MonkeyPatch, decoders: Decoders
) -> None:
    with opened(decoders, dicom.jpeg_clip()) as study:
        at_work = decoder_at_work(study)
        limits = {
            name: resource.prlimit(at_work, number)
            for name, number in vars(resource).items()
            if name in ("RLIMIT_CORE", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE")
        }
        environment = Path(f"/proc/{at_work}/environ").read_text().split("\0")
        threads = list(Path(f"/proc/{at_work}/task").iterdir())
        filters = re.search(r"Seccomp_filters:\t(\d+)", Path(f"/proc/{at_work}/status").read_text())
    assert calls.is_supported() == (filters is not None and filters[1] == "1")
    assert limits["RLIMIT_CORE"] == (0, 0)
    assert limits["RLIMIT_DATA"] == (1 << 30, 1 << 30)
    assert limits["RLIMIT_FSIZE"] == (1 << 30, 1 << 30)
    assert limits["RLIMIT_NOFILE"] == (64, 64)
    allowed = {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"}
    assert {one.split("=")[0] for one in environment if one} <= allowed | {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    assert len(threads) == 1, "a decoder is forked, so its template has one thread"


def test_s4_a_clip_with_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    clip = read_study(slow_jpeg2000(frames=16)).only
    with pytest.raises(TooLarge, match="16 frames of 4096 x 4096 have 268 million pixels; at most 256 million"):
        clip.frames.grey(range(16))
    small = read_dicom(dicom.jpeg_clip(), Limits(decoded_pixels=120 * 160)).only.frames
    assert small.grey([1, 1]).shape[0] == 2, "one frame is decoded once"
    with pytest.raises(TooLarge, match="decoded at once"):
        small.grey([0, 1])


def test_s4_a_jpeg_of_hundreds_of_scans_is_refused_before_it_is_decoded() -> None:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    picture = cv2.imencode(".jpg", dicom.moving_disc(1)[0], options)[1].tobytes()
    assert read_study(picture).only.frame_count == 1
    scan = picture[picture.rindex(codecs.START_OF_SCAN) : -2]
    with pytest.raises(TooLarge, match=r"JPEG has 88\d scans; at most 32"):
        read_study(picture[:-2] + scan * 880 + picture[-2:])


def test_s4_what_a_decoder_sends_is_data_and_numbers_only() -> None:
    memory = mmap.mmap(-1, 1 << 20)
    hostile = [
        {"content": {"kind": "Popen", "fields": {"args": "id"}}, "arrays": []},
        {"content": {"array": 0}, "arrays": [["|O8", [1]]]},
        {"content": {"array": 0}, "arrays": [["<f8", [1 << 40]]]},
        {"content": {"array": 0}, "arrays": [["<f8", [-1]]]},
        {"content": {"array": 3}, "arrays": []},
    ]
    for header in hostile:
        data = json.dumps(header).encode()
        memory[: len(data)] = data
        with pytest.raises((KeyError, ValueError, TypeError, IndexError)):
            wire.read(memory, len(data))


def test_a_cine_passes_whole_and_its_arrays_are_copies() -> None:
    memory = mmap.mmap(-1, 1 << 20)
    voxels = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    cine = Cine("short-axis", voxels, (1.5, 1.5), 8.0, affine=np.eye(4), sources={(0, 1): ("1.2.3", 4)})
    study = wire.read(memory, wire.write(Study((), (cine,)), memory))
    memory[:] = bytes(len(memory))
    (passed,) = study.cines
    assert np.array_equal(passed.voxels_TZHW, voxels)
    assert np.array_equal(passed.affine, np.eye(4))
    assert (passed.sources, passed.spacing_mm) == (cine.sources, (1.5, 1.5))
    with pytest.raises(TooLarge, match="when decoded"):
        wire.write(Pixels(np.zeros((1, 1024, 1025), np.uint8)).frames_THW, memory)


def test_a_reader_that_fails_on_a_file_blames_the_file_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise NotImplementedError(dicom.PATIENT)

    monkeypatch.setattr(process.reading, "read_study", fail)
    refused = process.Reader().answer({"size": 4}, None, mmap.mmap(-1, 4096))
    assert refused["error"] == "NotAnImage"
    assert "NotImplementedError in fail:" in refused["unexpected"]
    assert dicom.PATIENT not in str(refused)
