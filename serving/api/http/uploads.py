"""Receives files: streamed into temporary files without a name, their size checked on the way.

The client's file name is never used: it may name a patient.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serving.api.http import problems

MIB = 1 << 20
FIELD = "file"
SPOOL_BYTES = 4 * MIB
"""Maximum size of an upload that stays in memory; a larger one is written to disk."""
GRACE_S = 5.0
"""Time after which the minimum rate applies: a client may need it to prepare its upload."""
RAW_TYPES = ("application/dicom", "application/octet-stream")


class _Parser(MultiPartParser):
    spool_max_size = SPOOL_BYTES


@dataclass(frozen=True)
class UploadLimits:
    """Limits of the body of one request."""

    max_mib: int
    timeout_s: float
    min_kib_s: float
    """Minimum mean rate since the body began, required after GRACE_S."""


async def receive(
    request: Request, limits: UploadLimits, *, max_files: int, hold_bytes: Callable[[int], None]
) -> list[BinaryIO]:
    """Receives the files of a request, at least one, each rewound to its start. Raises Problem if the body is not as
    expected.

    `hold_bytes` is called with the size of each piece, and may raise.
    """
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _receive(request, limits, max_files, hold_bytes)
    except TimeoutError:
        raise problems.slow_upload(limits.timeout_s) from None
    except ClientDisconnect:
        raise problems.bad_request("the client disconnected before the body was complete.") from None


async def _receive(
    request: Request, limits: UploadLimits, max_files: int, hold_bytes: Callable[[int], None]
) -> list[BinaryIO]:
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limits.max_mib * MIB:
        raise problems.too_large(limits.max_mib)
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = _limited(request, limits, hold_bytes)
    if media_type == "multipart/form-data":
        return await _multipart(request, body, max_files)
    if media_type in RAW_TYPES:
        return [await _raw(body)]
    if stated == "0":
        raise problems.bad_request("the body is empty; send a DICOM file.")
    raise problems.unsupported_media_type()


async def _limited(
    request: Request, limits: UploadLimits, hold_bytes: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """Yields the body as it arrives. Raises Problem as soon as it is larger or slower than allowed."""
    received, began_s, pieces = 0, asyncio.get_running_loop().time(), request.stream()
    while True:
        try:
            async with asyncio.timeout_at(_due_s(began_s, received, limits.min_kib_s)):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise problems.stalled_upload(limits.min_kib_s) from None
        if piece is None:
            return
        received += len(piece)
        if received > limits.max_mib * MIB:
            raise problems.too_large(limits.max_mib)
        hold_bytes(len(piece))
        yield piece


def _due_s(began_s: float, received: int, min_kib_s: float) -> float:
    """Returns the time, on the event loop's clock, by which the next piece must have arrived."""
    return began_s + GRACE_S + received / (1024 * min_kib_s)


async def _raw(body: AsyncGenerator[bytes, None]) -> BinaryIO:
    upload = UploadFile(cast(BinaryIO, tempfile.SpooledTemporaryFile(SPOOL_BYTES)))  # noqa: SIM115  the answer closes it
    try:
        async for chunk in body:
            await upload.write(chunk)
        if upload.file.tell() == 0:
            raise problems.bad_request("the body is empty; send a DICOM file.")
        await upload.seek(0)
    except BaseException:
        upload.file.close()
        raise
    return upload.file


async def _multipart(request: Request, body: AsyncGenerator[bytes, None], max_files: int) -> list[BinaryIO]:
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise problems.bad_request("multipart/form-data needs a boundary.")
    # One more than allowed, so that too many files get their own message.
    parser = _Parser(request.headers, body, max_files=max_files + 1, max_fields=8, max_part_size=4096)
    try:
        form = await parser.parse()
    except MultiPartException:
        # Its message may quote the client.
        raise problems.bad_request(
            f"the multipart body is malformed, has over {max_files} file(s), or text fields."
        ) from None
    parts = form.multi_items()
    try:
        return _files(parts, max_files)
    except problems.Problem:
        for _, part in parts:
            if isinstance(part, UploadFile):
                part.file.close()
        raise


def _files(parts: list[tuple[str, UploadFile | str]], max_files: int) -> list[BinaryIO]:
    expected = f"send {'one file' if max_files == 1 else f'1 to {max_files} files'} in the field `{FIELD}`."
    if not parts:
        raise problems.bad_request(f"the form is empty; {expected}")
    if any(name != FIELD for name, _ in parts):
        raise problems.bad_request(f"the form has another field; {expected}")
    if any(isinstance(part, str) for _, part in parts):
        raise problems.bad_request(f"the field `{FIELD}` holds text, not a file; nothing is fetched from an address.")
    files = [part for _, part in parts if isinstance(part, UploadFile)]
    if len(files) > max_files:
        raise problems.bad_request(f"the form has {len(files)} files or more; {expected}")
    if any(part.size == 0 for part in files):
        raise problems.bad_request("a file is empty; send a DICOM file.")
    return [part.file for part in files]
