"""Pictures of the report: moving clips and, for synthetic patients only, the same frame before and after
de-identification.

Axes: T frame, H row, W column, C colour.
"""

import io
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from echoplane.html import data_uri
from echoplane.study.dicom import read_dicom

CLIP_WIDTH, CLIP_QUALITY = 300, 55
STILL_WIDTH, STILL_QUALITY = 760, 82
MAX_FRAMES = 32


def moving_clip(path: Path) -> str:
    """Returns the clip's scan region as an animated WebP, at its own speed, in a data URI."""
    clip = read_dicom(path).only
    frames_THW = clip.frames.grey(range(min(clip.frame_count, MAX_FRAMES)))
    shown = max((region for region in clip.regions if region.kind == "tissue"), key=lambda region: region.area)
    frames_THW = frames_THW[:, shown.top : shown.bottom, shown.left : shown.right]
    frames = [_scaled(Image.fromarray(frame_HW), CLIP_WIDTH) for frame_HW in frames_THW]
    file = io.BytesIO()
    frames[0].save(
        file,
        format="WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=round(clip.frame_time_ms or 40),
        loop=0,
        quality=CLIP_QUALITY,
        method=4,
    )
    return data_uri(file.getvalue(), "image/webp")


def still(path: Path, frame: int = 0) -> str:
    """Returns one frame in colour as stored in the file, in a data URI. Files before de-identification: synthetic ones
    only."""
    image = Image.fromarray(_colour(path, frame))
    file = io.BytesIO()
    _scaled(image, STILL_WIDTH).save(file, format="WEBP", quality=STILL_QUALITY)
    return data_uri(file.getvalue(), "image/webp")


def _colour(path: Path, frame: int) -> np.ndarray:
    from pydicom.pixels import pixel_array

    return np.asarray(pixel_array(path, index=frame))


def _scaled(image: Image.Image, width: int) -> Image.Image:
    if image.width <= width:
        return image
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.BILINEAR)


HEADER_ROWS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "InstitutionName",
    "ReferringPhysicianName",
    "AccessionNumber",
    "StudyInstanceUID",
    "Manufacturer",
    "PatientIdentityRemoved",
)


def header(path: Path) -> dict[str, str]:
    """Returns the header attributes that the report shows; "" for an absent one."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return {keyword: str(dataset.get(keyword, "") or "") for keyword in HEADER_ROWS}
