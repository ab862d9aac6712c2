"""Report of a folder on disk: `report.json`, and `report.html` with thumbnails of the written pixels.

The originals are not shown: pictures are decoded from the output files, and every value is escaped.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cv2
import jinja2
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, pixel_array

from echoplane.deid.outcome import Outcome, Report
from echoplane.deid.reasons import FLAGS, SENTENCES, WRITTEN
from echoplane.study.pydicom_setup import set_up_pydicom

_PICTURES = 24
_PICTURE_WIDTH = 240


@dataclass(frozen=True)
class Picture:
    """Thumbnail of a written file; `data_uri` is None if it cannot be shown."""

    data_uri: str | None
    caption: str


def write(report: Report, out_dir: Path) -> None:
    """Writes both files, each atomically."""
    write_whole(out_dir / "report.json", report.to_json())
    write_whole(out_dir / "report.html", html(report, list(contact_sheet(report, out_dir))))


def write_whole(path: Path, text: str) -> None:
    """Writes the file atomically: its final name never refers to an incomplete file."""
    temporary = path.with_name(f".writing-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def html(report: Report, pictures: list[Picture]) -> str:
    """Returns the report as HTML, for the person who approves the batch."""
    text = (resources.files("echoplane.deid") / "data" / "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(text).render(report=report, sentences=SENTENCES, flags=FLAGS, pictures=pictures)


def contact_sheet(report: Report, out_dir: Path) -> Iterator[Picture]:
    """Yields the middle frame of up to 24 outputs, spread over the batch."""
    written = [outcome for outcome in report.outcomes if outcome.status == WRITTEN and outcome.output]
    step = max(1, -(-len(written) // _PICTURES))
    for outcome in written[::step]:
        picture = _picture(outcome, out_dir / outcome.output) if outcome.output else None
        if picture is not None:
            yield picture


def _picture(outcome: Outcome, path: Path) -> Picture | None:
    set_up_pydicom()
    dataset = dcmread(path)
    if "PixelData" not in dataset:
        return None
    frames = int(dataset.get("NumberOfFrames") or 1)
    caption = f"{outcome.pseudonym}, {frames} frame{'s' * (frames > 1)}"
    try:
        return Picture(_data_uri(dataset, frames), caption)
    except Exception:  # pydicom and OpenCV may raise anything; one unusual file must not prevent the report
        return Picture(None, f"{caption}, no picture")


def _data_uri(dataset: Dataset, frames: int) -> str:
    """Returns the middle frame as a small JPEG."""
    frame = pixel_array(dataset, index=frames // 2) if frames > 1 else pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        frame = apply_color_lut(frame, dataset) >> 8 * (dataset["RedPaletteColorLookupTableDescriptor"].value[2] > 8)
    small = _shrink(_to_bytes(frame, dataset.PhotometricInterpretation == "MONOCHROME1"))
    encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"


def _to_bytes(frame: np.ndarray, inverted: bool) -> np.ndarray:
    """Converts a frame to eight bits, in OpenCV's order of colours."""
    if frame.dtype != np.uint8:
        low, high = float(frame.min()), float(frame.max())
        frame = ((frame - low) * (255 / max(high - low, 1))).astype(np.uint8)
    frame = 255 - frame if inverted else frame
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) if frame.ndim == 3 else frame


def _shrink(frame: np.ndarray) -> np.ndarray:
    height = max(1, round(frame.shape[0] * _PICTURE_WIDTH / frame.shape[1]))
    return cv2.resize(frame, (_PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
