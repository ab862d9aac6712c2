"""Every frame of every encoding is read right: compared with what was encoded, and with a second decoder.

Reference decoders are GDCM, where echoplane decodes otherwise, and dcmtk, if its commands are installed.
Axes: T frame, H row, W column, C sample."""

import base64
import shutil
import subprocess
from pathlib import Path

import cv2
import gdcm
import numpy as np
import openjpeg
import pydicom
import pytest
import simplejpeg
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from echoplane.errors import InputError, NotAnImage, Unsupported
from echoplane.study.dicom import read_dicom
from tests import dicom_files as dicom

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
SHAPE_THW = (3, 32, 48)
HTJ2K_FRAME = base64.b64decode(
    "/0//UQApQAAAAAAwAAAAIAAAAAAAAAAAAAAAMAAAACAAAAAAAAAAAAABBwEB/1AACAACAAAAAv9SAAwAAgABAAUEBEAB/1wAEyBI"
    "UFBQUFBQUFBQUFBQSEhI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAKMAAf+TwCalzQEBdADAEcATABdzALa2AEI0"
    "AMATQBUAoviAC3QAWk37AOR3VQDAE8AVgAAA2KfCdQAsY4yx4AD2AAHsuADAFXAFpAAAAPPwp6enQngAlIiIiIiI/v8cnv3ye/fJ"
    "7LsAwCugFvgAAP1/lPT09PT09PJ8AAgAAAAAAAAAAP7/e+ASe/ZJ79knv2Se/ZJ79knstQH/2Q=="
)
"""(5 x row + 2 x column) % 256 of 32 x 48, encoded losslessly by OpenJPH 0.26.3."""


def _colours(shape_THW: tuple[int, int, int] = SHAPE_THW) -> np.ndarray:
    """Smooth colours, other ones in each frame: uint8 (frame, row, column, sample)."""
    frame, row, column = np.indices(shape_THW)
    red, green = 4 * row + column + 30 * frame, 200 - 3 * row + 10 * frame
    return np.clip(np.stack([red, green, 90 + 2 * column], axis=-1), 0, 255).astype(np.uint8)


def _luminance(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def _ybr(rgb_THWC: np.ndarray) -> np.ndarray:
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] for frame in rgb_THWC])


def _read(data: bytes) -> np.ndarray:
    clip = read_dicom(data).only
    return clip.frames.grey(range(clip.frame_count))


def _assert_same(read_THW: np.ndarray, expected_THW: np.ndarray, tolerance: float = 1.0) -> None:
    assert read_THW.shape == expected_THW.shape
    for index, (read_HW, expected_HW) in enumerate(zip(read_THW, expected_THW, strict=True)):
        assert np.abs(read_HW - expected_HW.astype(float)).max() <= tolerance, f"frame {index}"


def _swapped(data: bytes, syntax: UID, bits: int) -> bytes:
    """Bytes in the order of a syntax."""
    return np.frombuffer(data, "<u2").byteswap().tobytes() if bits == 16 and syntax == ExplicitVRBigEndian else data


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("frames", [1, 3])
def test_e1_uncompressed_colour_is_right_in_every_frame(syntax: UID, photometric: str, planar: int, frames: int):
    rgb_THWC = _colours((frames, 32, 48))
    stored = rgb_THWC if photometric == "RGB" else _ybr(rgb_THWC)
    if photometric == "YBR_FULL_422":  # Y Y Cb Cr, whatever the planar configuration
        pairs = stored.reshape(frames, 32, 24, 2, 3)
        stored = np.stack([pairs[..., 0, 0], pairs[..., 1, 0], pairs[..., 0, 1], pairs[..., 0, 2]], axis=-1)
    elif planar:
        stored = stored.transpose(0, 3, 1, 2)
    data = dicom.native_clip(
        stored.tobytes(), rgb_THWC.shape[:3], syntax, samples=3, photometric=photometric,
        change=dicom.setting(PlanarConfiguration=planar),
    )  # fmt: skip
    _assert_same(_read(data), _luminance(rgb_THWC))


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"])
@pytest.mark.parametrize(("bits", "stored"), [(8, 8), (16, 8), (16, 12), (16, 16)])
@pytest.mark.parametrize("frames", [1, 3])
def test_uncompressed_grey_is_right_in_every_frame(
    syntax: UID, photometric: str, bits: int, stored: int, frames: int
) -> None:
    grey_THW = np.repeat(np.linspace(0, 255, 48).round().astype(np.uint8)[None, None], 32, axis=1)
    grey_THW = np.concatenate([np.roll(grey_THW, 7 * t, axis=2) for t in range(frames)])
    palette = photometric == "PALETTE COLOR"
    values = grey_THW.astype(f"<u{bits // 8}") << (0 if palette else stored - 8)

    def change(dataset: dicom.Dataset) -> None:
        dicom.setting(BitsStored=stored, HighBit=stored - 1)(dataset)
        if palette:
            _add_palette(dataset)

    pixel_data = _swapped(values.tobytes(), syntax, bits)
    data = dicom.native_clip(pixel_data, values.shape, syntax, bits=bits, photometric=photometric, change=change)
    _assert_same(_read(data), 255 - grey_THW if photometric != "MONOCHROME2" else grey_THW)


def _add_palette(dataset: dicom.Dataset) -> None:
    """Greys that run backwards; words are in the byte order of the file."""
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    table = (np.arange(255, -1, -1) * 257).astype(f"{order}u2").tobytes()
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)


def test_bytes_in_big_endian_words_are_read_in_their_order() -> None:
    grey_THW = dicom.moving_disc(3, 31, 33)  # frames of an odd length begin inside a word
    swapped = np.frombuffer(grey_THW.tobytes() + b"\0", "<u2").byteswap().tobytes()

    def in_words(dataset: dicom.Dataset) -> None:
        dataset["PixelData"].VR = "OW"

    assert np.array_equal(
        _read(dicom.native_clip(swapped, grey_THW.shape, ExplicitVRBigEndian, change=in_words)), grey_THW
    )


def test_bits_beside_the_stored_ones_are_no_part_of_a_pixel() -> None:
    """Old files keep an overlay there (PS3.5 8.1.1)."""
    grey_THW = dicom.moving_disc(2, 32, 48)
    values = grey_THW.astype(np.uint16) << 4 | 0x8001
    change = dicom.setting(BitsStored=8, HighBit=11)
    assert np.array_equal(
        _read(dicom.native_clip(values.tobytes(), values.shape, bits=16, change=change)), _stretched(grey_THW)
    )


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) * (255 / (high - low))).astype(np.uint8)


def test_whole_ybr_that_is_called_subsampled_is_known_by_its_length() -> None:
    rgb_THWC = _colours()
    data = dicom.native_clip(_ybr(rgb_THWC).tobytes(), SHAPE_THW, samples=3, photometric="YBR_FULL_422")
    _assert_same(_read(data), _luminance(rgb_THWC))


def _rle(frame: np.ndarray) -> bytes:
    """Encodes (row, column) or (row, column, sample) by pydicom."""
    colour = frame.ndim == 3
    options = {"samples_per_pixel": 3, "planar_configuration": 0} if colour else {"samples_per_pixel": 1}
    return pydicom.pixels.get_encoder(RLELossless).encode(
        frame,
        rows=frame.shape[0],
        columns=frame.shape[1],
        bits_allocated=8 * frame.itemsize,
        bits_stored=8 * frame.itemsize,
        pixel_representation=0,
        photometric_interpretation="RGB" if colour else "MONOCHROME2",
        number_of_frames=1,
        **options,
    )


def _jpeg2000(frame: np.ndarray) -> bytes:
    """Lossless, with the multiple component transform for colour."""
    kind = 1 if frame.ndim == 3 else 2
    return openjpeg.encode(frame, photometric_interpretation=kind, codec_format=0)


@pytest.mark.parametrize("encode", [_rle, _jpeg2000], ids=["RLE", "JPEG 2000"])
@pytest.mark.parametrize("bits", [8, 16])
def test_lossless_colour_is_right_in_every_frame(encode, bits: int) -> None:
    rgb_THWC = _colours().astype(f"u{bits // 8}") * (257 if bits == 16 else 1)
    syntax, photometric = (RLELossless, "RGB") if encode is _rle else (JPEG2000Lossless, "YBR_RCT")
    frames = [encode(frame) for frame in rgb_THWC]
    data = dicom.encoded_clip(frames, SHAPE_THW, syntax, samples=3, bits=bits, photometric=photometric)
    _assert_same(_read(data), _luminance(_colours()))


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_RCT"])
def test_the_codestream_says_whether_jpeg2000_components_were_transformed(photometric: str) -> None:
    rgb_THWC = _colours()
    frames = [_jpeg2000(frame) for frame in rgb_THWC]
    data = dicom.encoded_clip(frames, SHAPE_THW, JPEG2000, samples=3, photometric=photometric)
    _assert_same(_read(data), _luminance(rgb_THWC))


def test_high_throughput_jpeg2000_equals_what_another_library_encoded() -> None:
    row, column = np.mgrid[:32, :48]
    expected = ((5 * row + 2 * column) % 256)[None]
    data = dicom.encoded_clip([HTJ2K_FRAME] * 2, (2, 32, 48), HTJ2KLossless)
    _assert_same(_read(data), np.concatenate([expected, expected]), tolerance=0)


def _gdcm_clip(source: bytes, syntax: UID, path: Path) -> bytes:
    """The file transcoded by GDCM."""
    path.write_bytes(source)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetImage(change.GetOutput())
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(path))
    assert writer.Write()
    return path.read_bytes()


LOSSLESS_BY_GDCM = (JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless)


@pytest.mark.parametrize("syntax", LOSSLESS_BY_GDCM, ids=lambda uid: uid.name)
@pytest.mark.parametrize(("bits", "stored"), [(8, 8), (16, 12), (16, 16)])
def test_lossless_grey_encoded_by_gdcm_is_right_in_every_frame(
    syntax: UID, bits: int, stored: int, tmp_path: Path
) -> None:
    grey_THW = dicom.moving_disc(3, 64, 80)
    values = grey_THW.astype(f"u{bits // 8}") << (stored - 8)
    change = dicom.setting(BitsStored=stored, HighBit=stored - 1)
    source = dicom.native_clip(values.tobytes(), values.shape, bits=bits, change=change)
    read_THW = _read(_gdcm_clip(source, syntax, tmp_path / "clip"))
    _assert_same(read_THW, _stretched(grey_THW) if bits == 16 else grey_THW, tolerance=0)


@pytest.mark.parametrize("syntax", LOSSLESS_BY_GDCM, ids=lambda uid: uid.name)
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_lossless_colour_encoded_by_gdcm_is_right_in_every_frame(syntax: UID, photometric: str, tmp_path: Path) -> None:
    rgb_THWC = _colours((3, 64, 80))
    stored = rgb_THWC if photometric == "RGB" else _ybr(rgb_THWC)
    source = dicom.native_clip(stored.tobytes(), rgb_THWC.shape[:3], samples=3, photometric=photometric)
    _assert_same(_read(_gdcm_clip(source, syntax, tmp_path / "clip")), _luminance(rgb_THWC))


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440"])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_e2_colours_of_a_jpeg_without_marker_follow_its_own_components(subsampling: str, photometric: str) -> None:
    """Only if nothing in the JPEG tells, three components of one size, the header decides."""
    rgb_THWC = _colours((3, 64, 80))
    frames = [_without_jfif(simplejpeg.encode_jpeg(f, 95, colorsubsampling=subsampling)) for f in rgb_THWC]
    data = dicom.encoded_clip(frames, rgb_THWC.shape[:3], JPEGBaseline8Bit, samples=3, photometric=photometric)
    expected_THWC = _ybr(rgb_THWC) if (subsampling, photometric) == ("444", "RGB") else rgb_THWC
    assert np.abs(_read(data) - _luminance(expected_THWC)).mean() < 3


def _without_jfif(frame: bytes) -> bytes:
    return frame[:2] + frame[4 + int.from_bytes(frame[4:6], "big") :]


def test_e2_components_named_rgb_are_red_green_and_blue_whatever_the_header_says() -> None:
    rgb_HWC = _colours((1, 64, 80))[0]
    as_ybr_HWC = cv2.cvtColor(rgb_HWC[..., [0, 2, 1]], cv2.COLOR_YCrCb2RGB)  # stored as they are by the encoder
    encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(as_ybr_HWC), 98, colorsubsampling="444")
    frame = bytearray(_without_jfif(encoded))
    for marker, step, first in ((b"\xff\xc0", 3, 10), (b"\xff\xda", 2, 5)):
        start = frame.index(marker) + first
        frame[start : start + 3 * step : step] = b"RGB"
    data = dicom.encoded_clip([bytes(frame)], (1, 64, 80), JPEGBaseline8Bit, samples=3, photometric="YBR_FULL_422")
    expected_HW = _luminance(_as_rgb_components(as_ybr_HWC))
    assert np.abs(_read(data)[0] - expected_HW).mean() < 2


def _as_rgb_components(rgb_HWC: np.ndarray) -> np.ndarray:
    """Y, Cb and Cr of a picture taken for red, green and blue."""
    return cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]


BY_GDCM = (
    *("SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm", "examples_rgb_color.dcm"),
    *("ExplVR_BigEnd.dcm", "SC_rgb_small_odd_big_endian.dcm", "image_dfl.dcm", "SC_rgb_small_odd.dcm"),
)


@pytest.mark.parametrize("name", BY_GDCM)
def test_gdcm_reads_the_same_frames(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(get_testdata_file(name))
    _accept_class_of(path, monkeypatch)
    _assert_same(_read(path.read_bytes()), _grey_by_gdcm(path), tolerance=7.0 if "ybr" in name else 1.0)


def _accept_class_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test files are of many classes; their pixels are what counts."""
    monkeypatch.setattr("echoplane.study.ultrasound.ULTRASOUND", (pydicom.dcmread(path).SOPClassUID,))


def _grey_by_gdcm(path: Path) -> np.ndarray:
    """Luminance of every frame, float, from the buffer that GDCM decodes."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image, dataset = reader.GetImage(), pydicom.dcmread(path)
    words = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), f"<u{dataset.BitsAllocated // 8}")
    shape = (int(dataset.get("NumberOfFrames", 1)), dataset.Rows, dataset.Columns)
    if dataset.SamplesPerPixel == 1:
        return words.reshape(shape)
    planar = image.GetPlanarConfiguration() == 1
    samples = words.reshape(shape[0], 3, *shape[1:]).transpose(0, 2, 3, 1) if planar else words.reshape(*shape, 3)
    colours = image.GetPhotometricInterpretation().GetString()
    return samples[..., 0] if colours.startswith("YBR") else _luminance(samples)


DCMTK = {
    "JPEG-lossy.dcm": "dcmdjpeg",
    "JPGExtended.dcm": "dcmdjpeg",
    "SC_rgb_jpeg_gdcm.dcm": "dcmdjpeg",
    "SC_jpeg_no_color_transform.dcm": "dcmdjpeg",
    "JPEGLSNearLossless_08.dcm": "dcmdjpls",
    "JPEGLSNearLossless_16.dcm": "dcmdjpls",
    "SC_rgb_jls_lossy_line.dcm": "dcmdjpls",
    "SC_rgb_jls_lossy_sample.dcm": "dcmdjpls",
    "SC_rgb_rle_16bit_2frame.dcm": "dcmdrle",
}


@pytest.mark.skipif(not shutil.which("dcmdjpeg"), reason="dcmtk is not installed (Debian: dcmtk)")
@pytest.mark.parametrize("name", DCMTK)
def test_dcmtk_reads_the_same_frames(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(get_testdata_file(name))
    _accept_class_of(source, monkeypatch)
    subprocess.run([DCMTK[name], str(source), str(tmp_path / "plain")], check=True)
    _assert_same(_read(source.read_bytes()), _read((tmp_path / "plain").read_bytes()))


def test_e10_jpeg_of_twelve_bits_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its highest values, 264 at one place, were read by dcmtk 3.6.7 as well."""
    path = Path(get_testdata_file("JPEG-lossy.dcm"))
    _accept_class_of(path, monkeypatch)
    data = path.read_bytes()
    grey_HW = _read(data)[0]
    assert np.array_equal(_read(data.replace(JPEGExtended12Bit.encode(), JPEGBaseline8Bit.encode())), grey_HW[None])
    assert (grey_HW.min(), grey_HW.max()) == (0, 255)
    assert grey_HW.mean() == pytest.approx(14.37 * 255 / 264, abs=0.1)


def _jpeg_frames(count: int = 24) -> list[bytes]:
    return [simplejpeg.encode_jpeg(f[..., None], 90, "GRAY") for f in dicom.moving_disc(count)]


def _with_pixel_data(pixel_data: bytes, **values: object) -> bytes:
    def change(dataset: dicom.Dataset) -> None:
        dicom.setting(PixelData=pixel_data, **values)(dataset)
        dataset["PixelData"].is_undefined_length = True

    return dicom.encoded_clip(_jpeg_frames(), (24, 120, 160), JPEGBaseline8Bit, change=change)


def _table(pixel_data: bytes, entries: list[int]) -> bytes:
    """Pixel data with another basic offset table."""
    end = 8 + int.from_bytes(pixel_data[4:8], "little")
    table = np.array(entries, "<u4").tobytes()
    return b"\xfe\xff\x00\xe0" + len(table).to_bytes(4, "little") + table + pixel_data[end:]


@pytest.mark.parametrize(
    "entries", [[], [0], [7] * 24, [0, *range(10**9, 10**9 + 23)], list(range(0, 200, 10)), [2**32 - 1] * 30]
)
@pytest.mark.parametrize("fragments", [1, 3])
def test_e17_frames_are_found_whatever_the_offset_table_says(entries: list[int], fragments: int) -> None:
    pixel_data = _table(encapsulate(_jpeg_frames(), fragments_per_frame=fragments), entries)
    _assert_same(_read(_with_pixel_data(pixel_data)), dicom.moving_disc(), tolerance=40)


@pytest.mark.parametrize("build", [dicom.jpeg_clip, dicom.grey_clip], ids=["JPEG", "uncompressed"])
def test_e17_without_number_of_frames_the_frames_are_counted(build) -> None:
    grey_THW = dicom.moving_disc()
    absent, empty = dicom.without("NumberOfFrames"), dicom.setting(NumberOfFrames=None)
    for data in (build(grey_THW, change=absent), build(grey_THW, change=empty)):
        clip = read_dicom(data).only
        assert clip.frame_count == 24
        assert clip.warnings == ("no NumberOfFrames in the file: 24 frames were counted",)


@pytest.mark.parametrize("stated", [1, 20, 30])
@pytest.mark.parametrize("build", [dicom.jpeg_clip, dicom.grey_clip], ids=["JPEG", "uncompressed"])
def test_e17_a_wrong_number_of_frames_is_named_as_the_cause(stated: int, build) -> None:
    with pytest.raises(NotAnImage, match="NumberOfFrames"):
        read_dicom(build(change=dicom.setting(NumberOfFrames=stated)))


def test_e17_a_jpeg_without_its_end_is_read_if_whole_and_refused_by_name_if_cut() -> None:
    grey_THW = dicom.moving_disc(frames=2)
    encoded = [simplejpeg.encode_jpeg(np.ascontiguousarray(f[..., None]), 90, "GRAY", "Gray") for f in grey_THW]

    def read(frames: list[bytes]) -> np.ndarray:
        return read_dicom(dicom.encoded_clip(frames, grey_THW.shape, JPEGBaseline8Bit)).only.frames.grey([0, 1])

    assert np.array_equal(read([jpeg[:-2] for jpeg in encoded]), read(encoded))
    with pytest.raises(NotAnImage, match="JPEG frame is damaged or truncated"):
        read([encoded[0], encoded[1][: len(encoded[1]) // 2]])


def test_a_palette_clip_without_a_palette_is_refused_with_the_cause() -> None:
    grey_THW = dicom.moving_disc(frames=2)
    clip = read_dicom(dicom.native_clip(grey_THW.tobytes(), grey_THW.shape, photometric="PALETTE COLOR")).only
    with pytest.raises(NotAnImage, match="holds no palette"):
        clip.frames.grey([0])


def test_rle_of_several_fragments_per_frame_is_read() -> None:
    rgb_THWC = _colours()
    frames = [_rle(frame) for frame in rgb_THWC]

    def change(dataset: dicom.Dataset) -> None:
        dataset.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=False)
        dataset["PixelData"].is_undefined_length = True

    data = dicom.encoded_clip(frames, SHAPE_THW, RLELossless, samples=3, photometric="RGB", change=change)
    _assert_same(_read(data), _luminance(rgb_THWC))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (dicom.setting(Rows=60), "header says 60 x 160"),
        (dicom.setting(SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2"), "component"),
        (dicom.setting(BitsAllocated=12), "BitsAllocated is 12"),
        (dicom.setting(PhotometricInterpretation="CMYK"), "PhotometricInterpretation is none of"),
        (dicom.setting(PhotometricInterpretation="MONOCHROME2"), "contradicts"),
        (dicom.without("PhotometricInterpretation"), "PhotometricInterpretation is missing"),
    ],
)
def test_a_header_that_contradicts_the_frames_is_refused_with_the_cause(change: dicom.Change, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        _read(dicom.jpeg_clip(change=change))


@pytest.mark.parametrize("precision", [1, 17, 89])
def test_a_frame_of_an_impossible_precision_is_refused_before_gdcm_ends_the_process(
    precision: int, tmp_path: Path
) -> None:
    data = bytearray(_gdcm_clip(dicom.grey_clip(dicom.moving_disc(1)), JPEGLSLossless, tmp_path / "clip"))
    data[data.index(b"\xff\xf7") + 4] = precision
    with pytest.raises(NotAnImage, match=f"states {precision} bits"):
        _read(bytes(data))


def test_compressed_pixels_in_an_uncompressed_syntax_are_named() -> None:
    plain = dicom.jpeg_clip().replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1\0\0\0")
    with pytest.raises(NotAnImage, match="compressed"):
        read_dicom(plain)


@pytest.mark.parametrize("number", [102, 107, 108, 112], ids=["H.264", "HEVC", "HEVC 10 bits", "JPEG XL"])
def test_e7_what_no_common_tool_decodes_is_refused_with_a_remedy_that_works(number: int) -> None:
    """gdcmconv and dcmtk decode none of these."""
    frame = b"\0\0\0\x20ftypisom"
    clip = dicom.encoded_clip([frame], SHAPE_THW, MPEG4HP41, samples=3, photometric="YBR_PARTIAL_420")
    with pytest.raises(Unsupported, match="as JPEG or uncompressed DICOM") as refused:
        read_dicom(clip.replace(MPEG4HP41.encode(), f"1.2.840.10008.1.2.4.{number}".encode()))
    assert "gdcmconv" not in str(refused.value)
