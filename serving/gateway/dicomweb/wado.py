"""WADO-RS (PS3.18 10.4): the stored files, their metadata and their frames."""

import contextlib
import functools
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from echoplane.study.pydicom_setup import set_up_pydicom
from serving.gateway.store import Instance

CHUNK_BYTES = 1 << 20
MAX_METADATA_BYTES = 1024
"""Maximum size of a binary element in metadata; a larger one is left out."""
MAX_FRAMES = 1000
BINARY = ("OB", "OW", "OD", "OF", "OL", "OV", "UN")
MEDIA_TYPES = {
    **dict.fromkeys(JPEGTransferSyntaxes, "image/jpeg"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, "image/jls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "image/jp2"),
    RLELossless: "image/dicom-rle",
}
"""Media type of a frame by transfer syntax (PS3.18 table 8.7.3-2); others are sent as octets."""


def files(found: list[Instance]) -> StreamingResponse:
    """Returns whole files, each in the transfer syntax in which it was received."""
    if not found:
        raise HTTPException(404, "the store holds no such instance")
    parts = ((f"application/dicom; transfer-syntax={one.transfer_syntax}", _read(one.path)) for one in found)
    return _multipart("application/dicom", parts)


def metadata(found: list[Instance]) -> list[dict[str, Any]]:
    """Returns the headers as JSON, without large binary elements."""
    if not found:
        raise HTTPException(404, "the store holds no such instance")
    set_up_pydicom()
    with _damage_is_said():
        return [_metadata(instance) for instance in found]


@contextlib.contextmanager
def _damage_is_said() -> Iterator[None]:
    """Converts every exception that pydicom raises on a damaged file to a response without values of the file."""
    try:
        yield
    except HTTPException:
        raise
    except Exception:
        raise HTTPException(422, "the stored file is damaged") from None


def _metadata(instance: Instance) -> dict[str, Any]:
    header = pydicom.dcmread(instance.path, stop_before_pixels=True)
    header.decode()
    _drop_large(header)
    header.SpecificCharacterSet = "ISO_IR 192"
    return header.to_json_dict(suppress_invalid_tags=True)


def _drop_large(dataset: Dataset) -> None:
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                _drop_large(item)
        elif element.VR in BINARY and len(element.value or b"") > MAX_METADATA_BYTES:
            del dataset[element.tag]


def frames(found: list[Instance], numbers: str) -> StreamingResponse:
    """Returns frames, counted from 1, as they are stored. Raises HTTPException 400 or 404."""
    if not found:
        raise HTTPException(404, "the store holds no such instance")
    set_up_pydicom()
    wanted = numbers.split(",")
    are_numbers = all(one.isascii() and one.isdigit() and len(one) < 10 for one in wanted)
    if len(wanted) > MAX_FRAMES or not are_numbers or len(set(map(int, wanted))) < len(wanted):
        raise HTTPException(400, f"expected up to {MAX_FRAMES} numbers of frames with commas, each once")
    syntax = UID(found[0].transfer_syntax)
    media_type = MEDIA_TYPES.get(syntax, "application/octet-stream")
    with _damage_is_said():
        dataset = pydicom.dcmread(found[0].path)
        if "PixelData" not in dataset:
            raise HTTPException(404, "the instance has no frames")
        contents = [_frame(dataset, int(one) - 1, syntax) for one in wanted]
    return _multipart(media_type, ((f"{media_type}; transfer-syntax={syntax}", iter([one])) for one in contents))


def _frame(dataset: Dataset, index: int, syntax: UID) -> bytes:
    count = int(dataset.get("NumberOfFrames") or 1)
    if not 0 <= index < count:
        raise HTTPException(404, f"the instance has {count} frames")
    if syntax.is_encapsulated:
        return get_frame(dataset.PixelData, index, number_of_frames=count)
    size = get_expected_length(dataset) // count
    return dataset.PixelData[index * size : (index + 1) * size]


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(functools.partial(file.read, CHUNK_BYTES), b"")


def _multipart(media_type: str, parts: Iterator[tuple[str, Iterator[bytes]]]) -> StreamingResponse:
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for content_type, content in parts:
            yield f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
            yield from content
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(body(), media_type=f'multipart/related; type="{media_type}"; boundary={boundary}')
