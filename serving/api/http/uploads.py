"""Receiving files: streamed into temporary files without a name, the size checked on the way.

The client's file name is never used: it may name a patient."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import BinaryIO, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serving.api.http import problems

MIB = 1 << 20
FIELD = "file"
SPOOL_BYTES = 8 * MIB
"""An upload up to this size stays in memory, a larger one goes to disk."""
RAW_TYPES = ("application/dicom", "application/octet-stream")


class _Parser(MultiPartParser):
    spool_max_size = SPOOL_BYTES


async def receive(request: Request, *, limit_mib: int, limit_s: float, most_files: int) -> list[BinaryIO]:
    """The files of a request, each at its start, one at least; Problem where they are not what was asked for."""
    try:
        async with asyncio.timeout(limit_s):
            return await _receive(request, limit_mib, most_files)
    except TimeoutError:
        raise problems.slow_upload(limit_s) from None
    except ClientDisconnect:
        raise problems.bad_request("the client went away before the body was complete.") from None


async def _receive(request: Request, limit_mib: int, most_files: int) -> list[BinaryIO]:
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limit_mib * MIB:
        raise problems.too_large(limit_mib)
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = _limited(request, limit_mib)
    if media_type == "multipart/form-data":
        return await _multipart(request, body, most_files)
    if media_type in RAW_TYPES:
        return [await _raw(body)]
    if stated == "0":
        raise problems.bad_request("the body is empty; send a DICOM file.")
    raise problems.unsupported_media_type()


async def _limited(request: Request, limit_mib: int) -> AsyncGenerator[bytes, None]:
    """The body as it arrives; Problem as soon as it is larger than allowed."""
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit_mib * MIB:
            raise problems.too_large(limit_mib)
        yield chunk


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


async def _multipart(request: Request, body: AsyncGenerator[bytes, None], most_files: int) -> list[BinaryIO]:
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise problems.bad_request("multipart/form-data needs a boundary.")
    # One more than allowed, so that too many files get their own words.
    parser = _Parser(request.headers, body, max_files=most_files + 1, max_fields=8, max_part_size=4096)
    try:
        form = await parser.parse()
    except MultiPartException:
        # Its message may quote the client.
        raise problems.bad_request(
            f"the multipart body is malformed, has over {most_files} file(s), or text fields."
        ) from None
    parts = form.multi_items()
    try:
        return _files(parts, most_files)
    except problems.Problem:
        for _, part in parts:
            if isinstance(part, UploadFile):
                part.file.close()
        raise


def _files(parts: list[tuple[str, UploadFile | str]], most_files: int) -> list[BinaryIO]:
    expected = f"send {'one file' if most_files == 1 else f'1 to {most_files} files'} in the field `{FIELD}`."
    if not parts:
        raise problems.bad_request(f"the form is empty; {expected}")
    if any(name != FIELD for name, _ in parts):
        raise problems.bad_request(f"the form has another field; {expected}")
    if any(isinstance(part, str) for _, part in parts):
        raise problems.bad_request(f"the field `{FIELD}` holds text, not a file; nothing is fetched from an address.")
    files = [part for _, part in parts if isinstance(part, UploadFile)]
    if len(files) > most_files:
        raise problems.bad_request(f"the form has {len(files)} files or more; {expected}")
    if any(part.size == 0 for part in files):
        raise problems.bad_request("a file is empty; send a DICOM file.")
    return [part.file for part in files]
