"""The reader: what it gives, and what it says of files that it can't read."""

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import simplejpeg
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian

from echoplane.errors import InputError, NotAnImage, TooLarge, Unsupported
from echoplane.study.dicom import read_dicom
from echoplane.study.limits import Limits
from echoplane.study.pixels import to_eight_bits
from tests import dicom_files as dicom

ECHO = Path(__file__).parents[3] / "shared" / "data" / "echo"


def _grey_by_pydicom(path: Path, index: int) -> np.ndarray:
    """Luminance (BT.601) of one frame through pydicom's own decoders, float."""
    frame = pydicom.pixels.pixel_array(path, index=index)
    return frame if frame.ndim == 2 else frame.astype(float) @ [0.299, 0.587, 0.114]


def _read_all(data: bytes) -> np.ndarray:
    clip = read_dicom(data).only
    return clip.frames.grey(range(clip.frame_count))


@pytest.fixture
def clip() -> Path:
    return Path(get_testdata_file("examples_ybr_color.dcm"))


def test_jpeg_luminance_equals_pydicoms_within_rounding(clip: Path) -> None:
    grey = read_dicom(clip).only.frames.grey([0, 7, 29])
    assert grey.shape == (3, 240, 320)
    for row, index in enumerate([0, 7, 29]):
        assert np.abs(grey[row] - _grey_by_pydicom(clip, index)).mean() < 1.0


def test_a_smaller_decode_shows_the_same_picture_and_is_large_enough(clip: Path) -> None:
    frames = read_dicom(clip).only.frames
    whole, half = frames.grey([3])[0], frames.grey([3], smallest_side=120)[0]
    assert half.shape == (120, 160)
    averaged = whole.reshape(120, 2, 160, 2).mean(axis=(1, 3))
    assert np.corrcoef(averaged.ravel(), half.ravel())[0, 1] > 0.995


@pytest.mark.parametrize("name", ["examples_palette.dcm", "examples_rgb_color.dcm", "ExplVR_BigEnd.dcm"])
def test_colour_and_palette_stills_become_pydicoms_luminance(name: str) -> None:
    path = Path(get_testdata_file(name))
    dataset = pydicom.dcmread(path)
    expected = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        expected = (pydicom.pixels.apply_color_lut(expected, dataset) >> 8).astype(np.uint8)
    grey = read_dicom(path).only.frames.grey([0])[0]
    assert np.abs(grey - expected.astype(float) @ [0.299, 0.587, 0.114]).max() <= 1.5


def test_more_than_eight_bits_keep_their_order_and_use_the_whole_range() -> None:
    values = np.array([[100.0, 612.0, 1124.0]])
    assert to_eight_bits(values, None).tolist() == [[0, 128, 255]]
    assert to_eight_bits(values, (612.0, 1124.0)).tolist() == [[0, 0, 255]]


def test_jpeg_of_monochrome1_has_black_at_zero() -> None:
    grey_THW = dicom.moving_disc()
    frames = [simplejpeg.encode_jpeg(255 - f[..., None], 95, "GRAY") for f in grey_THW]

    def change(dataset: dicom.Dataset) -> None:
        dicom.setting(PhotometricInterpretation="MONOCHROME1", SamplesPerPixel=1)(dataset)
        _set_frames(dataset, frames)

    assert np.abs(_read_all(dicom.jpeg_clip(change=change)).astype(int) - grey_THW).mean() < 5


@pytest.mark.parametrize("named", [False, True], ids=["by the header alone", "by the frame"])
def test_jpeg_has_the_colours_of_the_header_unless_it_names_its_own(named: bool) -> None:
    rgb_HWC = np.full((120, 160, 3), (120, 100, 140), np.uint8)
    frame = simplejpeg.encode_jpeg(rgb_HWC, 95)
    if not named:  # red, green and blue coded as they are, and no marker that says so
        mistaken_HWC = cv2.cvtColor(rgb_HWC[..., [0, 2, 1]], cv2.COLOR_YCrCb2RGB)
        frame = _without_marker(simplejpeg.encode_jpeg(mistaken_HWC, 95))

    def change(dataset: dicom.Dataset) -> None:
        dataset.PhotometricInterpretation = "RGB"
        _set_frames(dataset, [frame] * 24)

    assert abs(int(_read_all(dicom.jpeg_clip(change=change))[0, 60, 80]) - 111) <= 2


def _without_marker(frame: bytes) -> bytes:
    """A JPEG without its JFIF segment."""
    return frame[:2] + frame[4 + int.from_bytes(frame[4:6], "big") :]


def _set_frames(dataset: dicom.Dataset, frames: list[bytes]) -> None:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True


def test_colour_is_scaled_by_the_bits_that_are_stored() -> None:
    grey_THW = dicom.moving_disc()
    rgb_THWC = np.repeat(grey_THW.astype(np.uint16)[..., None] * 16, 3, axis=3)

    def change(dataset: dicom.Dataset) -> None:
        dicom.setting(PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0)(dataset)
        dicom.setting(BitsStored=12, HighBit=11, PixelData=rgb_THWC.tobytes())(dataset)

    read = _read_all(dicom.grey_clip(grey_THW.astype(np.uint16), change=change))
    assert np.abs(read.astype(int) - grey_THW).max() <= 1


@pytest.mark.parametrize(("bits", "factor"), [(8, 1), (8, 257), (16, 257)], ids=["padded", "filled", "16 bits"])
def test_a_palette_in_words_keeps_its_levels(bits: int, factor: int) -> None:
    grey_THW = dicom.moving_disc()

    def change(dataset: dicom.Dataset) -> None:
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
            table = (np.arange(256) * factor).astype("<u2").tobytes()
            setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
        dataset.PhotometricInterpretation = "PALETTE COLOR"

    assert np.array_equal(_read_all(dicom.grey_clip(grey_THW, change=change)), grey_THW)


def test_the_header_gives_time_and_half_open_regions(clip: Path) -> None:
    instance = read_dicom(clip).only
    assert instance.frame_time_ms == pytest.approx(33.333)
    (region,) = instance.regions
    item = pydicom.dcmread(clip).SequenceOfUltrasoundRegions[0]
    assert (region.kind, region.top, region.left) == ("tissue", item.RegionLocationMinY0, item.RegionLocationMinX0)
    assert (region.bottom, region.right) == (item.RegionLocationMaxY1 + 1, item.RegionLocationMaxX1 + 1)


def test_a_repr_shows_no_patient(clip: Path) -> None:
    study = read_dicom(clip)
    assert study.only.identity is not None
    assert study.only.identity.patient not in repr(study)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: b"not an image", NotAnImage),
        (lambda data: data[: len(data) // 2], NotAnImage),
        (lambda data: data[:200], NotAnImage),
        (lambda data: data.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.99"), Unsupported),
        (lambda data: data.replace(b"1.2.840.10008.5.1.4.1.1.3.1", b"1.2.840.10008.5.1.4.1.1.9.1"), Unsupported),
    ],
    ids=["text", "half", "header cut", "transfer syntax", "sop class"],
)
def test_a_bad_file_is_refused_with_its_reason(clip: Path, change: object, error: type[InputError]) -> None:
    with pytest.raises(error):
        read_dicom(change(clip.read_bytes()))  # type: ignore[operator]


def test_a_file_cut_anywhere_is_never_read_as_whole(clip: Path) -> None:
    data = clip.read_bytes()
    for end in np.random.default_rng(0).integers(0, len(data) - 8, 40):
        with pytest.raises(InputError):
            _read_all(data[: int(end)])


def test_a_header_with_flipped_bytes_is_read_or_refused_never_a_crash(clip: Path) -> None:
    data, rng = clip.read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(data)
        for place in rng.integers(132, 3000, 6):
            damaged[place] = rng.integers(0, 256)
        with contextlib.suppress(InputError):
            read_dicom(bytes(damaged))


def test_sizes_are_capped_before_decoding(clip: Path) -> None:
    with pytest.raises(TooLarge, match="30 frames"):
        read_dicom(clip, Limits(frames=29))
    with pytest.raises(TooLarge, match="million pixels"):
        read_dicom(clip, Limits(frame_pixels=1000))


def test_a_deflated_bomb_is_refused_before_it_is_inflated() -> None:
    path = Path(get_testdata_file("image_dfl.dcm"))
    with pytest.raises(TooLarge, match="inflated"):
        read_dicom(path, Limits(inflated_bytes=1000))


@pytest.mark.parametrize(
    ("vector", "expected_ms"), [(["0", "40", "60"], 50.0), ("40", None), (["40"], None), (["0", "-40"], None)]
)
def test_frame_times_are_averaged_without_the_first_which_is_no_time(vector: object, expected_ms: float | None) -> None:
    def change(dataset: dicom.Dataset) -> None:
        del dataset.FrameTime
        dataset.FrameTimeVector = vector

    assert read_dicom(dicom.jpeg_clip(change=change)).only.frame_time_ms == expected_ms


TO_VECTOR, TO_TIME = 0x00181065, 0x00181063


@pytest.mark.parametrize(
    ("values", "expected_ms", "warned"),
    [
        ({"FrameIncrementPointer": TO_VECTOR, "FrameTimeVector": ["0", "40", "60"], "FrameTime": "1000"}, 50.0, ""),
        ({"FrameIncrementPointer": TO_VECTOR, "FrameTimeVector": ["0", "40", "60"], "FrameTime": "33"}, 50.0, ""),
        ({"FrameIncrementPointer": TO_TIME, "FrameTimeVector": ["0", "40", "60"], "FrameTime": "33"}, 33.0, ""),
        ({"FrameIncrementPointer": [TO_VECTOR], "FrameTime": "33"}, 33.0, ""),
        ({"FrameTime": "1000", "FrameTimeVector": ["0", "40", "60"]}, 50.0, "not plausible for a clip: FrameTime;"),
        ({"FrameTime": "1000", "CineRate": 25}, 40.0, "not plausible for a clip: FrameTime;"),
        ({"FrameTime": "1000"}, None, "not plausible for a clip: FrameTime"),
        ({"FrameTime": "0", "CineRate": 2}, None, "not plausible for a clip: CineRate"),
        ({"FrameTime": "0", "CineRate": 25}, 40.0, "no usable FrameTime"),
        ({"FrameTime": "0.04"}, 40.0, "in seconds"),
        ({"FrameTimeVector": ["0", "0.04", "0.06"]}, 50.0, "FrameTimeVector can only be in seconds"),
        ({"FrameTime": "0.04", "CineRate": 50}, 20.0, "not plausible for a clip: FrameTime;"),
    ],
)
def test_e3_the_pointer_decides_the_frame_time_and_implausible_times_are_warned_of(
    values: dict[str, object], expected_ms: float | None, warned: str
) -> None:
    clip = read_dicom(dicom.jpeg_clip(change=lambda d: (delattr(d, "FrameTime"), dicom.setting(**values)(d)))).only
    assert clip.frame_time_ms == (pytest.approx(expected_ms) if expected_ms else None)
    assert warned in " ".join(clip.warnings)
    assert len(clip.warnings) == bool(warned)


def test_e4_a_file_that_ends_inside_a_sequence_item_is_called_truncated() -> None:
    data = dicom.jpeg_clip()
    sequence = b"\xfa\xff\xfa\xff" + b"SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    with pytest.raises(NotAnImage, match="truncated"):
        read_dicom(data + sequence + b"\x08\0\x55\x11UI\x06\x001.2.3\0")


def test_the_refusal_of_a_class_says_which_it_is_and_never_a_value_that_somebody_made_up() -> None:
    computed_tomography = dicom.grey_clip(change=dicom.setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))
    with pytest.raises(Unsupported, match="CT Image Storage"):
        read_dicom(computed_tomography)
    with pytest.raises(Unsupported, match=r"\(unknown\)") as refused:
        read_dicom(dicom.grey_clip(change=dicom.setting(SOPClassUID="1.2.826.8675309")))
    assert "8675309" not in str(refused.value)


def test_e19_a_secondary_capture_of_ultrasound_is_read() -> None:
    for number in ("7", "7.2", "7.4"):
        data = dicom.jpeg_clip(change=dicom.setting(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{number}"))
        assert read_dicom(data).only.frame_count == 24
    other = dicom.setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.7.4", Modality="OT")
    with pytest.raises(Unsupported, match="set Modality to US"):
        read_dicom(dicom.jpeg_clip(change=other))


def test_e19_a_file_without_preamble_or_file_meta_is_read() -> None:
    grey_THW = dicom.moving_disc()
    implicit = dicom.native_clip(grey_THW.tobytes(), grey_THW.shape, ImplicitVRLittleEndian)
    for data in (dicom.grey_clip(grey_THW), implicit):
        without_meta = data[144 + int.from_bytes(data[140:144], "little") :]
        assert np.array_equal(_read_all(without_meta), grey_THW)
        assert np.array_equal(_read_all(data[132:]), grey_THW)
    compressed = dicom.jpeg_clip()
    with pytest.raises(NotAnImage, match="compressed"):
        read_dicom(compressed[144 + int.from_bytes(compressed[140:144], "little") :])


def test_e19_a_file_that_begins_with_the_prefix_or_states_no_transfer_syntax_is_read() -> None:
    grey_THW = dicom.moving_disc()
    for data in (
        dicom.grey_clip(grey_THW),
        dicom.native_clip(grey_THW.tobytes(), grey_THW.shape, ImplicitVRLittleEndian),
    ):
        assert np.array_equal(_read_all(data[128:]), grey_THW)
        start = data.index(b"\x02\0\x10\0UI")  # TransferSyntaxUID
        end = start + 8 + int.from_bytes(data[start + 6 : start + 8], "little")
        length = int.from_bytes(data[140:144], "little") - (end - start)
        assert np.array_equal(
            _read_all(data[:140] + length.to_bytes(4, "little") + data[144:start] + data[end:]), grey_THW
        )


def test_e3_a_frame_time_vector_of_times_since_the_start_is_read_so() -> None:
    pointer = {"FrameIncrementPointer": 0x00181065, "FrameTime": None}
    since_start = dicom.grey_clip(change=dicom.setting(**pointer, FrameTimeVector=[25.0 * k for k in range(24)]))
    clip = read_dicom(since_start).only
    assert clip.frame_time_ms == pytest.approx(25)
    assert "times since the start" in clip.warnings[0]
    uneven = dicom.grey_clip(change=dicom.setting(**pointer, FrameTimeVector=[0, *(20, 40, 30) * 7, 20, 40]))
    clip = read_dicom(uneven).only
    assert (clip.frame_time_ms, clip.warnings) == (pytest.approx(30, abs=0.1), ())


def test_a_photometric_interpretation_in_small_letters_is_known() -> None:
    clip = read_dicom(dicom.grey_clip(change=dicom.setting(PhotometricInterpretation="monochrome2"))).only
    assert np.array_equal(clip.frames.grey([0]), dicom.moving_disc()[:1])


@pytest.mark.skipif(not ECHO.exists(), reason="the real echo files are not beside this checkout")
@pytest.mark.parametrize("path", sorted(ECHO.glob("*.dcm")), ids=lambda path: path.name[:24])
def test_every_real_echo_gives_all_its_frames(path: Path) -> None:
    clip = read_dicom(path).only
    assert _read_all(path.read_bytes()).shape == (clip.frame_count, clip.rows, clip.columns)
