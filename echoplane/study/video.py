"""Reads ultrasound as a video or picture without a header: AVI, MP4, GIF, PNG, JPEG.

Videos are decoded from memory by FFmpeg as shipped with OpenCV (LGPL), after their first bytes have identified the
format: no other format of FFmpeg is ever tried, in particular no playlist, which can refer to other files.
Axes: T frame, H row, W column.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from echoplane.errors import NotAnImage, TooLarge
from echoplane.study.codecs import jpeg_header
from echoplane.study.limits import DEFAULT_LIMITS, Limits
from echoplane.study.study import Instance, Pixels, Study

NAMES = "AVI, MP4, GIF, PNG and JPEG"
CODECS = "H.264, HEVC, MPEG-2, MPEG-4, Motion JPEG or VP9"
CAUSES = f"it is damaged, truncated, or its codec is none of {CODECS}"
PLAUSIBLE_RATES_HZ = (4.0, 400.0)
HEADERLESS = "without header: taken for ultrasound; patient, scan region and calibration are unknown"
PLAYBACK = "the frame time is the video's, which may have been made slower or faster"


def kind_of(data: bytes) -> str | None:
    """Returns "video" or "picture" by the first bytes of a file, None if its format is not read."""
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "video"
    if data[4:8] == b"ftyp" or data[:6] in (b"GIF87a", b"GIF89a"):
        return "video"
    return "picture" if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) else None


def read_without_header(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Study:
    """Returns the study of a video or picture. Raises NotAnImage if it is damaged, TooLarge if it exceeds the
    limits."""
    read = _video if kind_of(data) == "video" else _picture
    return Study((read(data, limits),))


def _picture(data: bytes, limits: Limits) -> Instance:
    rows, columns = _picture_size(data)
    limits.check(rows, columns, 1)
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    with _opencv_errors():
        grey_HW = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if grey_HW is None or grey_HW.shape != (rows, columns):
        raise NotAnImage("the picture is damaged: it could not be decoded.")
    return _instance(data, Pixels(grey_HW[None]), (1, rows, columns), None, (HEADERLESS,))


def _picture_size(data: bytes) -> tuple[int, int]:
    if data[:2] == b"\xff\xd8":
        header = jpeg_header(data)
        return header.rows, header.columns
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")  # IHDR, always the first chunk


@dataclass(frozen=True)
class VideoFrames:
    """Frames of a video in memory, decoded in order as far as they are needed."""

    data: bytes

    def grey(self, indices: Sequence[int], smallest_side: int | None = None) -> np.ndarray:
        """Returns frames `indices` as uint8 (frame, row, column); see `echoplane.study.study.Frames`."""
        wanted = set(indices)
        capture, greys = _opened(self.data), {}
        with _opencv_errors():
            for index in range(max(wanted) + 1):
                decoded = capture.grab()
                if index in wanted:
                    decoded, frame_HWC = capture.retrieve()
                    if decoded:
                        greys[index] = cv2.cvtColor(frame_HWC, cv2.COLOR_BGR2GRAY)
                if not decoded:
                    raise NotAnImage(f"frame {index + 1} of the video could not be decoded.")
        return np.stack([greys[index] for index in indices])


def _video(data: bytes, limits: Limits) -> Instance:
    capture = _opened(data)
    rows, columns = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if min(rows, columns) < 1:
        raise NotAnImage("the video is damaged: it states no size.")
    limits.check(rows, columns, 1)
    count = _count(capture, rows * columns, limits)
    rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
    known = PLAUSIBLE_RATES_HZ[0] <= rate_hz <= PLAUSIBLE_RATES_HZ[1]
    warnings = (HEADERLESS, PLAYBACK) if known else (HEADERLESS,)
    return _instance(data, VideoFrames(data), (count, rows, columns), 1000 / rate_hz if known else None, warnings)


def _count(capture: cv2.VideoCapture, frame_pixels: int, limits: Limits) -> int:
    """Returns the number of frames that can be decoded: the number stated by the container may be wrong."""
    max_frames = min(limits.frames, limits.video_pixels // frame_pixels)
    count = 0
    with _opencv_errors():
        while count <= max_frames and capture.grab():
            count += 1
    if count > max_frames:
        raise TooLarge(f"the video has over {max_frames} frames of its size; no more are read. Send one clip of it.")
    if count == 0:
        raise NotAnImage(f"not one frame of the video could be decoded: {CAUSES}.")
    return count


def _opened(data: bytes) -> cv2.VideoCapture:
    """Opens a video in an unnamed file in memory: OpenCV crashes if it reads a damaged one from a Python stream."""
    file = os.memfd_create("video")
    try:
        with open(file, "wb", closefd=False) as target:
            target.write(data)
        with _opencv_errors():
            capture = cv2.VideoCapture(f"/proc/self/fd/{file}", cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    finally:
        os.close(file)
    if not capture.isOpened():
        raise NotAnImage(f"the video could not be opened: {CAUSES}.")
    return capture


@contextlib.contextmanager
def _opencv_errors() -> Iterator[None]:
    """Converts exceptions that OpenCV raises on damaged input to NotAnImage."""
    try:
        yield
    except cv2.error:
        raise NotAnImage("the file is damaged: it could not be decoded.") from None


def _instance(
    data: bytes,
    frames: Pixels | VideoFrames,
    shape: tuple[int, int, int],
    frame_time_ms: float | None,
    warnings: tuple[str, ...],
) -> Instance:
    count, rows, columns = shape
    digest = hashlib.sha256(data).hexdigest()
    return Instance(digest, "US", count, rows, columns, frames, frame_time_ms, warnings=warnings, has_header=False)
