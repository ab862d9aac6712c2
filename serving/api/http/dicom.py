"""`POST /v1/dicom`: the answers to files as DICOM objects, in one zip (PS3.18 8.7.3.2 names application/zip)."""

import functools
import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from fastapi import Request, Response

from echoplane.errors import EchoplaneError, InputError, UnusableStudy
from serving.api.http import problems
from serving.api.http.auth import caller_key
from serving.api.http.schemas import RESEARCH_USE, Body, FileBody
from serving.api.http.service import Service
from serving.api.inference.answer import Received, StudyRefused

ZIP_TYPE = "application/zip"
LEFT_OUT = "Echoplane-Left-Out"
"""Header with the number of answers and problems that are not among the DICOM objects."""

MAX_REASONS = 3
"""Maximum number of different reasons in a problem's detail."""


class ResultsBody(Body):
    """File `answers.json` of the zip."""

    request_id: str
    """Random id made by the service."""
    files: list[FileBody]
    """One entry per file and task that accepts it, without its result files."""
    left_out: list[str]
    """Reason for each answer of which no DICOM object was made."""
    research_use: str = RESEARCH_USE
    """Permitted use of the answers."""


async def dicom_objects(service: Service, request: Request) -> Response:
    """Answers each file of a request, and returns the reports and segmentations that DICOM systems read, in a zip with
    `answers.json`. Nothing is kept; the answers do not enter the prediction log, as those of /v1/study do.

    Raises Problem 422 if no object can be made.
    """
    async with service.admission.request(caller_key(request)) as in_flight:
        received, held = await service.receive(request, in_flight, max_files=service.settings.max_files)
        received = replace(received, monitored=False)
        entries = [entry async for entry in service.entries(request, in_flight, received, held)]
        answered = [(file, _answers(entries, index)) for index, file in enumerate(held)]
        if not any(answers for _, answers in answered):
            raise _nothing_made([entry.problem.detail for entry in entries if entry.problem])
        objects, left_out = await in_flight.run(functools.partial(_made, service, answered, received))
        problem_count = sum(entry.problem is not None for entry in entries)
        body = ResultsBody(request_id=received.request_id, files=_without_files(entries), left_out=left_out)
        headers = {
            LEFT_OUT: str(len(left_out) + problem_count),
            "Content-Disposition": 'attachment; filename="echoplane-dicom.zip"',
        }
        return Response(_zipped(objects, body), media_type=ZIP_TYPE, headers=headers)


def _answers(entries: Sequence[FileBody], index: int) -> list[dict[str, Any]]:
    """Returns the answers to one file as plain data."""
    return [entry.answer.model_dump(mode="json") for entry in entries if entry.index == index and entry.answer]


def _made(
    service: Service, answered: Sequence[tuple[BinaryIO, list[dict[str, Any]]]], received: Received
) -> tuple[dict[str, bytes], list[str]]:
    """Returns the DICOM objects, made by a decoder, on a thread."""
    try:
        objects, left_out = service.decoders.dicom_objects(answered, received.deadline, received.request_id)
    except InputError as error:
        raise problems.of_error(StudyRefused(error, None)) from None
    except EchoplaneError as error:
        raise problems.of_error(error) from None
    if not objects:
        raise _nothing_made(left_out)
    return objects, left_out


def _nothing_made(reasons: Sequence[str]) -> problems.Problem:
    shown = list(dict.fromkeys(reasons))[:MAX_REASONS]
    error = UnusableStudy(f"no DICOM object can be made: {' '.join(shown)}")
    return problems.of_error(StudyRefused(error, None))


def _without_files(entries: Sequence[FileBody]) -> list[FileBody]:
    """Returns the entries without the masks, which the DICOM objects hold."""
    return [
        entry.model_copy(update={"answer": entry.answer.model_copy(update={"files": {}})}) if entry.answer else entry
        for entry in entries
    ]


def _zipped(objects: dict[str, bytes], body: ResultsBody) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, dicom in objects.items():
            archive.writestr(name, dicom)
        archive.writestr("answers.json", body.model_dump_json(indent=1))
    return content.getvalue()
