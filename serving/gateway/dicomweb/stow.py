"""STOW-RS (PS3.18 10.5): stores the instances of a request and says for each whether it is durably stored."""

import asyncio
import functools
from collections.abc import AsyncGenerator

from fastapi import HTTPException, Request, Response
from pydicom.dataset import Dataset
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from serving.gateway.dicomweb import DICOM_JSON, PATH
from serving.gateway.dicomweb.multipart import BadBody, Parts, boundary_of
from serving.gateway.filing import receive
from serving.gateway.instances import Header, Refused, invalid
from serving.gateway.receiving import IncomingFile
from serving.gateway.settings import MIB, GatewaySettings
from serving.gateway.store import Store

PIECE_TIMEOUT_S = 60
"""Maximum wait for the next piece of a body."""


class Outcome:
    """Instances of one request that were stored, and those that were refused."""

    def __init__(self) -> None:
        self.stored: list[Header] = []
        self.failed: list[tuple[Header | None, int]] = []

    @property
    def status(self) -> int:
        """200 if every instance is stored, 202 if some are, 409 if none is."""
        if not self.failed and self.stored:
            return 200
        return 202 if self.stored else 409

    def body(self) -> Dataset:
        """Returns the Store Instances Response (PS3.18 table I.1-1)."""
        response = Dataset()
        studies = {header.study_uid for header in self.stored}
        if len(studies) == 1:
            response.RetrieveURL = f"{PATH}/{studies.pop()}"
        if self.stored:
            response.ReferencedSOPSequence = [_stored_item(header) for header in self.stored]
        if failed := [(header, reason) for header, reason in self.failed if header]:
            response.FailedSOPSequence = [_failed_item(header, reason) for header, reason in failed]
        if others := [reason for header, reason in self.failed if header is None]:
            response.OtherFailuresSequence = [_with(FailureReason=reason) for reason in others]
        return response


def _stored_item(header: Header) -> Dataset:
    url = f"{PATH}/{header.study_uid}/series/{header.series_uid}/instances/{header.sop_uid}"
    return _with(ReferencedSOPClassUID=header.sop_class, ReferencedSOPInstanceUID=header.sop_uid, RetrieveURL=url)


def _failed_item(header: Header, reason: int) -> Dataset:
    return _with(ReferencedSOPClassUID=header.sop_class, ReferencedSOPInstanceUID=header.sop_uid, FailureReason=reason)


def _with(**values: str | int) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


async def store_instances(
    store: Store, settings: GatewaySettings, site: str, request: Request, study_uid: str = ""
) -> Response:
    """Receives one request. Its response comes after every stored instance is flushed to disk."""
    outcome = Outcome()
    try:
        boundary = boundary_of(request.headers.get("content-type", ""))
        new_file = functools.partial(IncomingFile, store.incoming, settings.max_instance_mib * MIB)
        parts = Parts(boundary, new_file, functools.partial(_file, store, site, study_uid, outcome))
        try:
            pieces = request.stream()
            while piece := await _next(pieces):
                await run_in_threadpool(parts.write, piece)
            parts.finish()
        finally:
            parts.close()
    except BadBody as error:
        raise HTTPException(error.status, error.detail) from None
    except TimeoutError:
        raise HTTPException(408, f"no data arrived for {PIECE_TIMEOUT_S} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client disconnected before the body was complete") from None
    return Response(outcome.body().to_json(), outcome.status, media_type=DICOM_JSON)


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """Returns the next piece of a body, empty at its end. Raises TimeoutError if it is late."""
    async with asyncio.timeout(PIECE_TIMEOUT_S):
        return await anext(pieces, b"")


def _file(store: Store, site: str, study_uid: str, outcome: Outcome, incoming: IncomingFile) -> None:
    """Stores one part and notes the outcome; a failure does not affect the other parts."""
    header: Header | None = None

    def check(found: Header) -> None:
        nonlocal header
        header = found
        if study_uid and found.study_uid != study_uid:
            raise invalid("the instance is of another study than the address")

    try:
        receive(store, site, incoming, check)
        if header is not None:
            outcome.stored.append(header)
    except Refused as refused:
        outcome.failed.append((header, refused.status))
    finally:
        incoming.discard()
