"""How much burned-in text the product masks, and how much of clean sectors: whole files in, written files out.

For a set of one's own: `python -m benchmarks.deid_recall hard 77`, with names of matplotlib's fonts behind if wanted.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage

from benchmarks.deid_texts import BOX, FONTS, Clip, clips
from echoplane.deid import Key, Policy, deidentify_file

KEY = Key(bytes(range(1, 65)))
COVERED = 0.9
"""Share of a text's ink that must be black for it to count as found."""


@dataclass(frozen=True)
class Found:
    """What became of the texts of one set."""

    texts: Counter[tuple[str, str]]
    covered: Counter[tuple[str, str]]
    held: Counter[str]
    masked_share: tuple[float, ...]
    """of each clip's sector, how much was blackened"""

    def recall(self, place: str | None = None, kind: str | None = None) -> tuple[int, int]:
        """Texts covered and texts in all, of a place or a kind."""
        chosen = [key for key in self.texts if place in (None, key[0]) and kind in (None, key[1])]
        return sum(self.covered[key] for key in chosen), sum(self.texts[key] for key in chosen)


def measure_set(hardness: str, seed: int, count: int = 24, fonts: tuple[str, ...] = FONTS) -> Found:
    """De-identify a set, and look at the written pixels. A clip that is held covers none of its texts."""
    texts, covered, held, shares = Counter(), Counter(), Counter(), []
    for number, clip in enumerate(clips(hardness, seed, count, fonts)):
        reason, black_THW = _written_black(to_file(clip, number))
        texts.update((text.place, text.kind) for text in clip.texts)
        held.update([reason] if reason else [])
        if black_THW is not None:
            covered.update((t.place, t.kind) for t in clip.texts if black_THW[t.ink_TRC].mean() >= COVERED)
            shares.append(float(_blackened(clip, black_THW)))
    return Found(texts, covered, held, tuple(shares))


def _blackened(clip: Clip, black_THW: np.ndarray) -> float:
    seen = clip.fan_HW & (clip.frames_THW > 24).any(axis=0)
    return float(black_THW.all(axis=0)[seen].mean())


def _written_black(content: bytes) -> tuple[str | None, np.ndarray | None]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "clip.dcm"
        source.write_bytes(content)
        outcome = deidentify_file(source, Path(folder) / "out", KEY, Policy())
        if outcome.output is None:
            return outcome.reason, None
        written = dcmread(Path(folder) / "out" / outcome.output)
    return None, np.stack([grey == 0 for grey in decoded(written)])


def decoded(dataset: Dataset) -> Iterator[np.ndarray]:
    """Luminance of every JPEG frame."""
    for frame in generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames)):
        yield simplejpeg.decode_jpeg(frame, "GRAY")[..., 0]


def to_file(clip: Clip, number: int) -> bytes:
    """The clip as a JPEG 4:2:2 ultrasound file with its region."""
    colour = np.repeat(clip.frames_THW[..., None], 3, axis=3)
    return file_of([simplejpeg.encode_jpeg(frame, 90, colorsubsampling="422") for frame in colour], number, BOX)


def file_of(frames: list[bytes], number: int, box: tuple[int, int, int, int]) -> bytes:
    """An ultrasound file of an invented patient around JPEG frames; box: top, left, bottom, right, exclusive."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.SOPClassUID, dataset.Modality = UltrasoundMultiFrameImageStorage, "US"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.999.1.1", "1.2.826.0.1.999.2.1"
    dataset.SOPInstanceUID = f"1.2.826.0.1.999.3.{number + 1}"
    dataset.PatientName, dataset.PatientID, dataset.StudyDate = "Zwetschgen^Rosalinde", "MRN4711077", "20240317"
    dataset.NumberOfFrames, dataset.FrameTime = len(frames), "33"
    height, width = simplejpeg.decode_jpeg_header(frames[0])[:2]
    dataset.Rows, dataset.Columns = height, width
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "YBR_FULL_422"
    dataset.PlanarConfiguration = dataset.PixelRepresentation = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.SequenceOfUltrasoundRegions = [_region(box)]
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _region(box: tuple[int, int, int, int]) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinY0, item.RegionLocationMinX0 = box[0], box[1]
    item.RegionLocationMaxY1, item.RegionLocationMaxX1 = box[2] - 1, box[3] - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = 0.04
    return item


if __name__ == "__main__":
    found = measure_set(sys.argv[1], int(sys.argv[2]), fonts=tuple(sys.argv[3:]) or FONTS)
    whole, sector = found.recall(), found.recall("sector")
    print(f"masked {whole[0]}/{whole[1]}, in the sector {sector[0]}/{sector[1]}, held {dict(found.held)}")
