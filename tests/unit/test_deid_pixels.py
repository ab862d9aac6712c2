"""Pixel cases of a demanding hospital; each test carries the number of its case."""

from io import BytesIO
from pathlib import Path

import cv2
import jpeglib
import numpy as np
import pytest
import simplejpeg
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import (
    MPEG4HP41,
    EnhancedMRImageStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    TwelveLeadECGWaveformStorage,
)

from echoplane.deid import Policy, accept
from tests.unit.test_deid_builder import (
    BOX,
    COLUMNS,
    FRAMES,
    KEY,
    ROWS,
    clip,
    echo,
    region,
    run,
    set_frames,
    set_jpeg,
    set_native,
    to_bytes,
    written,
    written_bytes,
)
from tests.unit.test_deid_regions import fan

INSIDE = np.zeros((ROWS, COLUMNS), bool)
INSIDE[BOX[0] : BOX[2], BOX[1] : BOX[3]] = True


def frames_of(dataset: Dataset) -> list[bytes]:
    return list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))


def coefficients(frame: bytes, folder: Path) -> list[np.ndarray]:
    """DCT coefficients by a library that the product does not use."""
    path = folder / "frame.jpg"
    path.write_bytes(frame)
    image = jpeglib.read_dct(str(path))
    return [image.Y, image.Cb, image.Cr]


def test_case_14_text_over_the_scan_is_masked_and_the_rest_of_it_is_kept(tmp_path: Path) -> None:
    pixels = clip(frames=12, shape=(360, 480))
    plain = pixels.copy()
    for frame in pixels:
        cv2.putText(frame, "ROSALINDE", (160, 190), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)
    ink = (pixels != plain).any(axis=(0, 3))
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region((96, 96, 336, 432))]), tmp_path)
    assert outcome.flags == ("text-masked", "scan-blackened")
    result = pixel_array(written(outcome, tmp_path))
    assert (result[:, ink].max(axis=(0, 2)) == 0).mean() > 0.95
    assert (result.max(axis=(0, 3)) == 0)[96:336, 96:432].mean() < 0.15


def test_case_14_text_beside_the_fan_in_one_frame_is_masked_in_all(tmp_path: Path) -> None:
    pixels = clip(frames=12, shape=(360, 480))
    pixels[:, 96:140, 96:432] = 0  # the fan begins lower; above it the region is black
    cv2.putText(pixels[-1], "ROSALINDE", (110, 120), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region((96, 96, 336, 432))]), tmp_path)
    assert pixel_array(written(outcome, tmp_path))[-1, 96:126].max() == 0


def test_case_14_text_over_a_scan_that_does_not_move_is_quarantined(tmp_path: Path) -> None:
    pixels = clip(frames=1, shape=(360, 480))
    cv2.putText(pixels[0], "ROSALINDE", (160, 190), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)
    outcome = run(echo(pixels, SequenceOfUltrasoundRegions=[region((96, 96, 336, 432))]), tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "text-in-still")


def test_case_14_a_still_without_words_is_written_without_the_claim(tmp_path: Path) -> None:
    pixels = clip(frames=1)
    pixels[0, BOX[0] : BOX[2], BOX[1] : BOX[3]] = np.linspace(40, 200, BOX[3] - BOX[1])[None, :, None]
    outcome = run(echo(pixels), tmp_path)
    result = written(outcome, tmp_path)
    assert outcome.flags == ("does-not-move",)
    assert "BurnedInAnnotation" not in result
    assert "113101" not in [code.CodeValue for code in result.DeidentificationMethodCodeSequence]


def test_case_15_every_frame_is_masked_also_the_last(tmp_path: Path) -> None:
    pixels = clip(text="")
    pixels[-1, :20, :100] = 255
    result = pixel_array(written(run(echo(pixels), tmp_path), tmp_path))
    assert result[:, ~INSIDE].max() == 0
    assert result[-1, INSIDE].min() > 0


def test_case_17_burned_in_annotation_no_is_not_believed(tmp_path: Path) -> None:
    result = pixel_array(written(run(echo(BurnedInAnnotation="NO"), tmp_path), tmp_path))
    assert result[:, ~INSIDE].max() == 0


def test_case_18_comments_application_segments_and_trailing_bytes_are_gone(tmp_path: Path) -> None:
    dataset = echo()
    name = b"Rosalinde Zwetschgen"
    spoiled = []
    for frame in frames_of(dataset):
        comment = b"\xff\xfe" + (len(name) + 2).to_bytes(2, "big") + name
        application = b"\xff\xe1" + (len(name) + 2).to_bytes(2, "big") + name
        spoiled.append(frame[:2] + comment + application + frame[2:] + name)
    set_frames(dataset, spoiled)
    outcome = run(dataset, tmp_path)
    assert b"Rosalinde" not in written_bytes(outcome, tmp_path)
    for frame in frames_of(written(outcome, tmp_path)):
        assert b"\xff\xfe" not in frame[:600]
        assert frame.rstrip(b"\0").endswith(b"\xff\xd9")


def test_case_19_bytes_beyond_the_expected_pixel_data_are_trimmed(tmp_path: Path) -> None:
    dataset = echo()
    set_native(dataset, clip(), "RGB")
    dataset.PixelData += b"Rosalinde Zwetschgen"
    outcome = run(dataset, tmp_path)
    assert len(written(outcome, tmp_path).PixelData) == FRAMES * ROWS * COLUMNS * 3
    assert b"Rosalinde" not in written_bytes(outcome, tmp_path)


@pytest.mark.parametrize("frames", ["2", "9", "0", "-1"])
def test_case_29_a_wrong_number_of_frames_is_quarantined(tmp_path: Path, frames: str) -> None:
    dataset = echo()
    dataset.NumberOfFrames = frames
    outcome = run(dataset, tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "pixel-data")


def test_case_29_empty_pixel_data_are_quarantined(tmp_path: Path) -> None:
    dataset = echo()
    set_native(dataset, clip(), "RGB")
    dataset.PixelData = b""
    assert run(dataset, tmp_path).reason == "pixel-data"


def test_case_30_video_is_refused(tmp_path: Path) -> None:
    dataset = echo()
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    outcome = run(dataset, tmp_path)
    assert (outcome.status, outcome.reason) == ("refused", "video")


def test_case_31_a_deflate_bomb_stops_at_the_cap(tmp_path: Path) -> None:
    import zlib

    plain = to_bytes(echo())
    start = plain.index(bytes.fromhex("08000800") + b"CS")
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = squeeze.compress(plain[start:]) + squeeze.compress(bytes(3 << 20)) + squeeze.flush()
    meta = plain[:start].replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1.99")
    outcome = run(meta + bomb, tmp_path, policy=Policy(max_file_mib=1))
    assert (outcome.status, outcome.reason) == ("refused", "too-large")


def test_case_32_decoded_size_is_capped_before_decoding(tmp_path: Path) -> None:
    dataset = echo()
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 30000, 30000, 5
    outcome = run(dataset, tmp_path)
    assert (outcome.status, outcome.reason) == ("refused", "too-large")


@pytest.mark.parametrize(
    ("photometric", "black"), [("RGB", 0), ("MONOCHROME2", 0), ("MONOCHROME1", 255), ("PALETTE COLOR", 9)]
)
def test_case_38_the_border_is_true_black_and_the_scan_is_unchanged(
    tmp_path: Path, photometric: str, black: int
) -> None:
    dataset, pixels = echo(), clip()
    stored = pixels if photometric == "RGB" else pixels[..., 0]
    set_native(dataset, np.ascontiguousarray(stored), photometric)
    if photometric == "PALETTE COLOR":
        ramp = np.roll(np.arange(256, dtype="<u2") * 257, 9)
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(dataset, f"{colour}PaletteColorLookupTableData", ramp.tobytes())
    result = written(run(dataset, tmp_path), tmp_path)
    values = np.frombuffer(result.PixelData, np.uint8).reshape(stored.shape)
    assert np.all(values[:, ~INSIDE] == black)
    assert np.array_equal(values[:, INSIDE], stored[:, INSIDE])
    assert result.PhotometricInterpretation == photometric


def test_case_38_ybr_full_is_masked_to_black_without_conversion(tmp_path: Path) -> None:
    dataset, pixels = echo(), clip()
    set_native(dataset, pixels, "YBR_FULL")
    values = np.frombuffer(written(run(dataset, tmp_path), tmp_path).PixelData, np.uint8).reshape(pixels.shape)
    assert np.all(values[:, ~INSIDE] == (0, 128, 128))
    assert np.array_equal(values[:, INSIDE], pixels[:, INSIDE])


def test_case_38_planes_are_masked_like_pixels(tmp_path: Path) -> None:
    dataset, pixels = echo(), clip()
    set_native(dataset, pixels, "RGB")
    dataset.PixelData = pixels.transpose(0, 3, 1, 2).tobytes()
    dataset.PlanarConfiguration = 1
    result = written(run(dataset, tmp_path), tmp_path)
    assert np.array_equal(pixel_array(result)[:, INSIDE], pixels[:, INSIDE])
    assert pixel_array(result)[:, ~INSIDE].max() == 0


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda s: s.name)
def test_case_38_compressed_pixels_come_out_lossless(tmp_path: Path, syntax: str) -> None:
    dataset, pixels = echo(), clip()
    set_native(dataset, pixels, "RGB")
    dataset.compress(syntax, generate_instance_uid=False)
    result = pixel_array(written(run(dataset, tmp_path), tmp_path))
    assert np.array_equal(result[:, INSIDE], pixels[:, INSIDE])
    assert result[:, ~INSIDE].max() == 0


def test_case_39_jpeg_stays_jpeg_and_coefficients_outside_the_mask_are_identical(tmp_path: Path) -> None:
    dataset = echo()
    result = written(run(dataset, tmp_path), tmp_path)
    assert result.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    top, left, bottom, right = (side // 8 for side in BOX)
    for before, after in zip(frames_of(dataset), frames_of(result), strict=True):
        for index, (old, new) in enumerate(
            zip(coefficients(before, tmp_path), coefficients(after, tmp_path), strict=True)
        ):
            half = 1 if index == 0 else 2  # 4:2:2 halves the columns of chroma
            box = np.s_[top:bottom, left // half : right // half]
            assert np.array_equal(old[box], new[box])
            outside = new.copy()
            outside[box] = 0
            outside[..., 0, 0] = 0  # the DC, black in luminance
            assert not outside.any()


def test_case_39_decoded_luminance_inside_is_identical(tmp_path: Path) -> None:
    dataset = echo()
    result = written(run(dataset, tmp_path), tmp_path)
    for before, after in zip(frames_of(dataset), frames_of(result), strict=True):
        old, new = (simplejpeg.decode_jpeg(frame, "GRAY")[..., 0] for frame in (before, after))
        assert np.array_equal(old[INSIDE], new[INSIDE])
        assert new[~INSIDE].max() == 0


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "Gray"])
@pytest.mark.parametrize("size", [(120, 160), (113, 149)])
def test_case_39_every_subsampling_and_odd_sizes_are_masked(
    tmp_path: Path, subsampling: str, size: tuple[int, int]
) -> None:
    grey = subsampling == "Gray"
    colours = {"colorspace": "GRAY"} if grey else {"colorsubsampling": subsampling}
    frames = [
        simplejpeg.encode_jpeg(np.ascontiguousarray(frame[: size[0], : size[1], : 1 if grey else 3]), 95, **colours)
        for frame in clip()
    ]
    dataset = echo()
    dataset.Rows, dataset.Columns = size
    dataset.SamplesPerPixel = 1 if grey else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if grey else "YBR_FULL"
    box = (32, 32, 96, 128)
    dataset.SequenceOfUltrasoundRegions = [region(box)]
    set_frames(dataset, frames)
    inside = np.zeros(size, bool)
    inside[box[0] : box[2], box[1] : box[3]] = True
    for before, after in zip(frames, frames_of(written(run(dataset, tmp_path), tmp_path)), strict=True):
        old, new = (simplejpeg.decode_jpeg(frame, "GRAY")[..., 0] for frame in (before, after))
        assert new[~inside].max() == 0
        assert np.array_equal(old[inside], new[inside])


def test_case_39_a_progressive_frame_under_the_baseline_syntax_is_quarantined(tmp_path: Path) -> None:
    frame = cv2.imencode(".jpg", clip()[0], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    dataset = echo()
    set_frames(dataset, [frame] * FRAMES)
    assert run(dataset, tmp_path).reason == "codec"


@pytest.mark.parametrize(("header", "frame"), [("RGB", "YCbCr"), ("YBR_FULL_422", "RGB")])
def test_case_39_a_frame_of_other_colours_than_the_header_says_is_quarantined(
    tmp_path: Path, header: str, frame: str
) -> None:
    def coded(pixels_HWC: np.ndarray) -> bytes:
        stream = BytesIO()
        Image.fromarray(pixels_HWC).save(stream, "JPEG", keep_rgb=frame == "RGB", quality=95)
        return stream.getvalue()

    dataset = echo(PhotometricInterpretation=header)
    set_frames(dataset, [coded(pixels_HWC) for pixels_HWC in clip()])
    assert run(dataset, tmp_path / "other").reason == "codec"
    dataset.PhotometricInterpretation = "RGB" if frame == "RGB" else "YBR_FULL"
    assert pixel_array(written(run(dataset, tmp_path / "same"), tmp_path / "same"))[:, ~INSIDE].max() == 0


def test_case_42_a_secondary_capture_is_refused(tmp_path: Path) -> None:
    outcome = run(echo(SOPClassUID=SecondaryCaptureImageStorage), tmp_path)
    assert (outcome.status, outcome.reason) == ("refused", "secondary-capture")
    assert not (tmp_path / "out" / "quarantine").exists()


def test_case_43_ecg_annotations_are_removed_and_the_signal_is_kept(tmp_path: Path) -> None:
    dataset = echo(SOPClassUID=TwelveLeadECGWaveformStorage, Modality="ECG")
    del dataset.PixelData
    channel, group, note = Dataset(), Dataset(), Dataset()
    channel.WaveformBitsStored, channel.ChannelSensitivity = 16, "1.25"
    signal = np.arange(100, dtype="<i2").tobytes()
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples, group.SamplingFrequency = 1, 100, "500"
    group.MultiplexGroupLabel = "Rosalinde"
    group.ChannelDefinitionSequence, group.WaveformBitsAllocated = [channel], 16
    group.WaveformSampleInterpretation, group.WaveformOriginality = "SS", "ORIGINAL"
    group.WaveformData = signal + b"Rosalinde "
    note.UnformattedTextValue = "Rosalinde, sinus rhythm"
    dataset.WaveformSequence, dataset.WaveformAnnotationSequence = [group], [note]
    outcome = run(dataset, tmp_path)
    result = written(outcome, tmp_path)
    assert result.WaveformSequence[0].WaveformData == signal
    assert "WaveformAnnotationSequence" not in result
    assert b"osalinde" not in written_bytes(outcome, tmp_path)


def mr_cine(frames: int = 6) -> np.ndarray:
    """A beating ring in 12 bits, as (frame, row, column)."""
    row, column = np.mgrid[:192, :192]
    noise = np.random.default_rng(4).normal(size=(frames, 192, 192))
    radius = np.hypot(row - 96, column - 96)
    rings = [300 * (abs(radius - 40 - 4 * np.sin(number)) < 9) + 120 * (radius < 32) for number in range(frames)]
    return np.clip(np.stack(rings) + 40 + 8 * noise, 0, 4095).astype(np.uint16)


def mr(clip_THW: np.ndarray) -> Dataset:
    dataset = echo(SOPClassUID=MRImageStorage, Modality="MR")
    del dataset.SequenceOfUltrasoundRegions
    set_native(dataset, clip_THW, "MONOCHROME2")
    return dataset


@pytest.mark.parametrize("native", [True, False], ids=["native", "jpeg"])
@pytest.mark.parametrize("where", [(4, 14), (50, 100)], ids=["corner", "heart"])
def test_letters_in_an_mr_image_are_held_until_a_person_accepts(
    tmp_path: Path, where: tuple[int, int], native: bool
) -> None:
    plain = mr_cine()
    shown = plain.copy()
    ink = cv2.putText(np.zeros((192, 192), np.uint8), "ZWETSCHGEN", where, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1)
    shown[:, ink > 0] = 700
    datasets = [mr(plain), mr(shown)]
    if not native:
        for dataset, pixels in zip(datasets, (plain, shown), strict=True):
            set_jpeg(dataset, (pixels // 3).clip(0, 255).astype(np.uint8)[..., None].repeat(3, 3))
    assert run(datasets[0], tmp_path / "plain").status == "written"
    outcome = run(datasets[1], tmp_path / "shown")
    assert (outcome.status, outcome.reason) == ("quarantined", "text-in-image")
    released = accept(outcome.input_digest, tmp_path / "shown" / "out", KEY, Policy(), person="R. Reviewer")
    assert released.status == "written"


def labelled(level: int, where: tuple[int, int] = (4, 14)) -> np.ndarray:
    """The cine with a name of these stored values."""
    pixels = mr_cine()
    ink = cv2.putText(np.zeros((192, 192), np.uint8), "ZWETSCHGEN", where, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1)
    pixels[:, ink > 0] = level
    return pixels


@pytest.mark.parametrize("place", [np.s_[:, 150, 100:102], np.s_[:, :3]], ids=["hot spot", "padding"])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_letters_are_held_also_where_a_few_values_make_all_others_dark(
    tmp_path: Path, place: tuple, photometric: str
) -> None:
    pixels = labelled(700, where=(4, 20))
    pixels[place] = 65535
    dataset = mr(65535 - pixels if photometric == "MONOCHROME1" else pixels)
    dataset.PhotometricInterpretation = photometric
    assert run(dataset, tmp_path).reason == "text-in-image"


@pytest.mark.parametrize("enhanced", [False, True])
def test_letters_are_held_where_only_the_window_of_the_file_shows_them(tmp_path: Path, enhanced: bool) -> None:
    pixels = labelled(240)
    pixels[:, 40:] *= 60  # the heart is as bright as the letters in no other window
    dataset = mr(pixels)
    assert run(dataset, tmp_path / "wide").status == "written"
    place = Dataset() if enhanced else dataset
    place.WindowCenter, place.WindowWidth, place.RescaleSlope, place.RescaleIntercept = "62.5", "125", "0.5", "0"
    if enhanced:
        dataset.SOPClassUID = EnhancedMRImageStorage
        frames = [Dataset() for _ in pixels]
        frames[-1].FrameVOILUTSequence = [place]
        dataset.PerFrameFunctionalGroupsSequence = frames
    assert run(dataset, tmp_path / "shown").reason == "text-in-image"


@pytest.mark.parametrize("hot", [False, True])
def test_case_14_text_in_a_clip_that_uses_12_of_16_bits_is_masked(tmp_path: Path, hot: bool) -> None:
    plain = fan()[..., 0]
    pixels = plain.copy()
    for frame in pixels:
        cv2.putText(frame, "ROSALINDE", (180, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    ink = pixels != plain
    plain, pixels = (clip_THW.astype(np.uint16) * 16 for clip_THW in (plain, pixels))
    if hot:
        pixels[:, 120, 240] = 65535
    dataset = echo(SequenceOfUltrasoundRegions=[region((32, 32, 336, 448))])
    set_native(dataset, pixels, "MONOCHROME2")
    outcome = run(dataset, tmp_path)
    assert "text-masked" in outcome.flags
    result = pixel_array(written(outcome, tmp_path))
    assert (result[ink] == 0).mean() > 0.95
    assert (result[:, 150:280, 230:250] == plain[:, 150:280, 230:250]).mean() > 0.5


@pytest.mark.parametrize("kind", ["ultrasound", "mr"])
def test_samples_above_bits_that_no_viewer_shows_are_quarantined(tmp_path: Path, kind: str) -> None:
    pixels = labelled(1) << 4
    dataset = mr(pixels) if kind == "mr" else echo()
    set_native(dataset, pixels, "MONOCHROME2")
    dataset.BitsStored, dataset.HighBit = 12, 15
    assert run(dataset, tmp_path).reason == "pixel-data"


def test_values_above_the_stored_bits_are_quarantined(tmp_path: Path) -> None:
    pixels = mr_cine()
    pixels[:, 4:14, 4:100] |= 0xA000
    dataset = mr(pixels)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.BitsStored, dataset.HighBit = 12, 11
    assert run(dataset, tmp_path).reason == "pixel-data"


def test_luminance_and_chroma_of_16_bits_are_quarantined(tmp_path: Path) -> None:
    dataset = echo()
    set_native(dataset, clip().astype(np.uint16), "YBR_FULL")
    assert run(dataset, tmp_path).reason == "pixel-data"
