"""Ultrasound as videos and pictures, and clips whose header does not say where the scan is.

Axes: T frame, H row, W column."""

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from echoplane.errors import InputError, NotAnImage, TooLarge, Unsupported
from echoplane.study.limits import Limits
from echoplane.study.reading import read_study
from echoplane.study.scan_region import FOUND, with_scan_region
from echoplane.study.video import HEADERLESS, PLAYBACK, read_without_header
from echoplane.tasks import view_video
from tests import dicom_files as dicom

RATE_HZ = 50


def _smooth_disc() -> np.ndarray:
    """A clip that lossy codecs keep well."""
    return np.stack([cv2.GaussianBlur(frame, (9, 9), 3) for frame in dicom.moving_disc()])


def _avi(grey_THW: np.ndarray, folder: Path, name: str = "clip.avi", codec: str = "MJPG") -> bytes:
    path = folder / name
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), RATE_HZ, grey_THW.shape[:0:-1])
    for frame_HW in grey_THW:
        writer.write(cv2.cvtColor(frame_HW, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path.read_bytes()


def _mp4(grey_THW: np.ndarray, folder: Path) -> bytes:
    return _avi(grey_THW, folder, "clip.mp4", "mp4v")


def _gif(grey_THW: np.ndarray, folder: Path) -> bytes:
    first, *others = (Image.fromarray(frame_HW) for frame_HW in grey_THW)
    first.save(folder / "clip.gif", save_all=True, append_images=others, duration=1000 // RATE_HZ, loop=0)
    return (folder / "clip.gif").read_bytes()


@pytest.mark.parametrize("write", [_avi, _mp4, _gif], ids=["AVI", "MP4", "GIF"])
def test_e19_a_video_is_read_frame_by_frame_and_marked_as_without_header(write, tmp_path: Path) -> None:
    grey_THW = _smooth_disc()
    clip = read_study(write(grey_THW, tmp_path)).only
    assert (clip.frame_count, clip.rows, clip.columns, clip.has_header) == (24, 120, 160, False)
    assert clip.frame_time_ms == pytest.approx(1000 / RATE_HZ)
    assert clip.warnings == (HEADERLESS, PLAYBACK)
    assert clip.identity is None
    read_THW = clip.frames.grey([0, 7, 23, 7])
    assert np.abs(read_THW.astype(int) - grey_THW[[0, 7, 23, 7]]).mean() < 6
    assert np.array_equal(read_THW[1], read_THW[3])


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_e19_a_picture_is_a_still_without_header(ending: str) -> None:
    grey_HW = _smooth_disc()[0]
    clip = read_study(cv2.imencode(ending, grey_HW)[1].tobytes()).only
    assert (clip.frame_count, clip.has_header, clip.frame_time_ms, clip.warnings) == (1, False, None, (HEADERLESS,))
    assert np.abs(clip.frames.grey([0])[0].astype(int) - grey_HW).mean() < 3


def test_a_dicom_clip_has_a_header() -> None:
    assert read_study(dicom.jpeg_clip()).only.has_header


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"\x1aE\xdf\xa3" + bytes(200), Unsupported, "video format is not read. Send DICOM, or one of AVI"),
        (b"II*\0" + bytes(200), Unsupported, "picture format is not read. Send DICOM"),
        (b"RIFF\0\0\0\0WEBP" + bytes(200), Unsupported, "picture format"),
        (b"#EXTM3U\nfile:///etc/passwd\n", NotAnImage, "this kind of file is not read"),
        (b"GIF89a", NotAnImage, "could not be opened: it is damaged, truncated, or its codec"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), NotAnImage, "."),
        (b"\0\0\0\x18ftypisom" + bytes(60), NotAnImage, "damaged"),
    ],
)
def test_e19_what_is_not_read_is_refused_with_the_way_out(data: bytes, error: type[InputError], said: str) -> None:
    with pytest.raises(error, match=said):
        read_study(data)


def test_sizes_of_videos_and_pictures_are_capped(tmp_path: Path) -> None:
    avi, png = _avi(_smooth_disc(), tmp_path), cv2.imencode(".png", _smooth_disc()[0])[1].tobytes()
    for limits in (Limits(frames=23), Limits(video_pixels=23 * 120 * 160), Limits(frame_pixels=1000)):
        with pytest.raises(TooLarge):
            read_without_header(avi, limits)
    with pytest.raises(TooLarge):
        read_without_header(png, Limits(frame_pixels=1000))
    claims_more = bytearray(png)
    claims_more[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(TooLarge):
        read_without_header(bytes(claims_more))


@pytest.mark.parametrize("write", [_avi, _mp4, _gif], ids=["AVI", "MP4", "GIF"])
def test_a_damaged_video_is_read_or_refused_never_a_crash(write, tmp_path: Path) -> None:
    data, rng = write(_smooth_disc()[:8], tmp_path), np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(data)
        for index in rng.integers(12, len(data), 5):
            damaged[index] = rng.integers(0, 256)
        with contextlib.suppress(InputError):
            clip = read_study(bytes(damaged[: rng.integers(20, len(data) + 1)])).only
            clip.frames.grey(range(clip.frame_count))


def test_a_video_that_points_outside_itself_is_refused_without_ending_the_process(tmp_path: Path) -> None:
    """OpenCV ends the process if its stream of Python bytes is asked to seek before the start."""
    data, rng = _avi(_smooth_disc()[:6], tmp_path), np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        for index in rng.integers(12, 1600, 4):
            damaged[index] = rng.integers(0, 256)
        with contextlib.suppress(InputError):
            read_study(bytes(damaged))


def _captioned(frames: int = 24) -> np.ndarray:
    """A beating disc in the middle of a larger black picture, with captions around it."""
    grey_THW = np.zeros((frames, 240, 320), np.uint8)
    grey_THW[:, 60:180, 80:240] = dicom.moving_disc(frames)
    row, column = np.mgrid[:240, :320]
    grey_THW[:, np.hypot(row - 120, column - 160) > 60] = 0
    for frame_HW in grey_THW:
        cv2.putText(frame_HW, "DOE JANE 17:45", (5, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
        cv2.putText(frame_HW, "75%", (270, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    rng = np.random.default_rng(0)
    moving = rng.integers(0, 60, (frames, 120, 160)).astype(np.uint8)
    inside_HW = np.hypot(*np.mgrid[-60:60, -80:80]) < 60
    grey_THW[:, 60:180, 80:240] = np.where(inside_HW, np.maximum(grey_THW[:, 60:180, 80:240] // 2, moving), 0)
    return grey_THW


def test_e18_without_a_region_the_scan_is_found_and_captions_beside_it_are_black() -> None:
    grey_THW = _captioned()
    clip = with_scan_region(read_study(dicom.grey_clip(grey_THW)).only)
    (region,) = clip.regions
    assert clip.warnings == (FOUND,)
    assert (region.top, region.left, region.bottom, region.right) == pytest.approx((60, 100, 180, 220), abs=16)
    whole_THW, half_THW = clip.frames.grey([0, 12]), clip.frames.grey([0, 12], smallest_side=120)
    for frames_THW in (whole_THW, half_THW):
        rows, columns = frames_THW.shape[1:]
        assert frames_THW[:, : rows // 6].max() == 0  # the caption
        assert frames_THW[:, :, columns * 5 // 6 :].max() == 0
        assert frames_THW[:, rows // 2, columns // 2].min() > 0


def test_e18_the_view_task_sees_the_found_scan_alone() -> None:
    study = read_study(dicom.grey_clip(_captioned()))
    config = view_video.Preprocessing()
    prepared = view_video.preprocess(study, config)
    assert FOUND in prepared.warnings
    assert not any("whole image" in warning for warning in prepared.warnings)
    beside_THW = _captioned()
    beside_THW[:, :50] = 0
    beside_THW[:, :, 250:] = 0
    without_text = view_video.preprocess(read_study(dicom.grey_clip(beside_THW)), config)
    assert np.array_equal(prepared.batch, without_text.batch)


def test_a_region_in_the_header_is_kept_and_a_still_is_left_as_it_is() -> None:
    def region(dataset: dicom.Dataset) -> None:
        item = dicom.Dataset()
        item.RegionSpatialFormat = item.RegionDataType = 1
        item.RegionLocationMinX0, item.RegionLocationMinY0 = 10, 20
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = 309, 219
        dataset.SequenceOfUltrasoundRegions = [item]

    stated = read_study(dicom.grey_clip(_captioned(), change=region)).only
    still = read_study(dicom.grey_clip(_captioned(1))).only
    frozen = read_study(dicom.grey_clip(np.repeat(_captioned(1), 12, axis=0))).only
    for clip in (stated, still, frozen):
        assert with_scan_region(clip) is clip
