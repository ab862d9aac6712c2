"""The two clients, and when a request is sent again."""

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import ValidationError

from echoplane.client.bodies import Answer, Body, Explanation, FileAnswer, Problem
from echoplane.errors import EchoplaneError

File = bytes | str | Path
RETRIED = (429, 503)
"""Statuses of a service that is busy, or not ready yet."""
FIRST_WAIT_S, MAX_WAIT_S = 0.25, 30.0
NDJSON = "application/x-ndjson"
NEUTRAL_NAME = "file"


class ServiceError(EchoplaneError):
    """Raised if a request gets no answer; `problem` is None if the service could not be reached or gave no reason."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class _Request(Body):
    """One request, with what every try of it has in common."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    files: tuple[bytes, ...] = ()
    json_body: Mapping[str, str] | None = None

    def options(self) -> dict[str, Any]:
        parts = [("file", (NEUTRAL_NAME, content)) for content in self.files]
        return {"headers": dict(self.headers), "files": parts or None, "json": self.json_body}


def _file_request(file: File, path: str) -> _Request:
    return _Request(method="POST", path=path, headers=_key(), files=(_content(file),))


def _study_request(files: Sequence[File]) -> _Request:
    contents = tuple(map(_content, files))
    return _Request(method="POST", path="/v1/study", headers={**_key(), "accept": NDJSON}, files=contents)


def _dicom_request(files: Sequence[File]) -> _Request:
    return _Request(method="POST", path="/v1/dicom", headers=_key(), files=tuple(map(_content, files)))


def _feedback_request(answer: Answer, label: str) -> _Request:
    body = {"request_id": answer.request_id, "task": answer.task, "label": label}
    return _Request(method="POST", path="/v1/feedback", headers=_key(), json_body=body)


def _key() -> dict[str, str]:
    return {"idempotency-key": uuid.uuid4().hex}


def _content(file: File) -> bytes:
    return file if isinstance(file, bytes) else Path(file).read_bytes()


def wait_s(tried: int, retry_after: str | None) -> float:
    """Returns the time to wait after `tried` tries: at random up to twice as much each time, at least `retry_after`."""
    least_s = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    jitter_s = random.uniform(0, FIRST_WAIT_S * 2**tried)  # noqa: S311  not for secrets
    return least_s + min(MAX_WAIT_S, jitter_s)


def _refused(response: httpx.Response) -> ServiceError:
    """Returns the error of a response whose body is read."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return ServiceError(f"the service answered {response.status_code} without a reason.")
    return ServiceError(f"{problem.detail} (status {problem.status}, request {problem.request_id})", problem)


def _unreachable(error: httpx.TransportError) -> ServiceError:
    return ServiceError(f"the service cannot be reached ({type(error).__name__}); check its address.")


class AsyncClient:
    """Asynchronous client. `tries` is the maximum number of times that one request is sent."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tries: int = 5,
        timeout_s: float = 60,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._tries = tries
        self._http = httpx.AsyncClient(
            base_url=address, headers=headers, timeout=timeout_s, transport=transport, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def answer(self, file: File, task: str) -> Answer:
        """Returns the answer of `task` to a file. Raises ServiceError if there is none."""
        return Answer.model_validate_json(await self._send(_file_request(file, f"/v1/{task}")))

    async def explain(self, file: File, task: str) -> Explanation:
        """Returns the explanation of the answer of `task`. Raises ServiceError if there is none."""
        return Explanation.model_validate_json(await self._send(_file_request(file, f"/v1/explain/{task}")))

    async def study(self, files: Sequence[File]) -> AsyncGenerator[FileAnswer, None]:
        """Yields the answers to files as they finish, each by every task that accepts it.

        Raises ServiceError if the request is refused, or ends before its last answer.
        """
        count = 0
        async with self._opened(_study_request(files), stream=True) as response:
            try:
                async for line in response.aiter_lines():
                    found = json.loads(line)
                    if "entries" in found:
                        return
                    count += 1
                    yield FileAnswer.model_validate(found)
            except httpx.TransportError as error:
                raise _unreachable(error) from None
        raise ServiceError(f"the service ended the study after {count} entries, before it was complete.")

    async def dicom(self, files: Sequence[File]) -> bytes:
        """Returns the answers to files as DICOM reports and segmentations, in one zip. Raises ServiceError if there are
        none."""
        return await self._send(_dicom_request(files))

    async def feedback(self, answer: Answer, label: str) -> None:
        """Says that `label` is right for the study of `answer`. Raises ServiceError if that is not kept."""
        await self._send(_feedback_request(answer, label))

    async def models(self) -> list[dict[str, Any]]:
        """Returns the models that answer, as /v1/models describes them."""
        return list(json.loads(await self._send(_Request(method="GET", path="/v1/models")))["models"])

    async def _send(self, request: _Request) -> bytes:
        async with self._opened(request) as response:
            return response.content

    @contextlib.asynccontextmanager
    async def _opened(self, request: _Request, *, stream: bool = False) -> AsyncIterator[httpx.Response]:
        """Yields a response of status 200, read unless it is to be streamed. Tries again as the module describes."""
        for tried in range(1, self._tries + 1):
            retry_after = None
            try:
                sent = self._http.build_request(request.method, request.path, **request.options())
                response = await self._http.send(sent, stream=stream)
                if not response.is_success:
                    await response.aread()
            except httpx.TransportError as error:
                failure = _unreachable(error)
            else:
                if response.is_success:
                    async with contextlib.aclosing(response):
                        yield response
                    return
                failure, retry_after = _refused(response), response.headers.get("retry-after")
                if response.status_code not in RETRIED:
                    raise failure
            if tried == self._tries:
                raise failure
            await asyncio.sleep(wait_s(tried, retry_after))


class Client:
    """Synchronous client: an `AsyncClient` on an event loop in a thread of its own, so it also works in a notebook."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tries: int = 5,
        timeout_s: float = 60,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._async = AsyncClient(address, token=token, tries=tries, timeout_s=timeout_s, transport=transport)
        self._open = contextlib.ExitStack()
        self._portal: BlockingPortal = self._open.enter_context(start_blocking_portal())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and ends the thread."""
        self._portal.call(self._async.close)
        self._open.close()

    def answer(self, file: File, task: str) -> Answer:
        """Returns the answer of `task` to a file. Raises ServiceError if there is none."""
        return self._portal.call(self._async.answer, file, task)

    def explain(self, file: File, task: str) -> Explanation:
        """Returns the explanation of the answer of `task`. Raises ServiceError if there is none."""
        return self._portal.call(self._async.explain, file, task)

    def study(self, files: Sequence[File]) -> Iterator[FileAnswer]:
        """Yields the answers to files as they finish; see `AsyncClient.study`."""
        answers = self._async.study(files)
        try:
            while (entry := self._portal.call(_next, answers)) is not None:
                yield entry
        finally:
            self._portal.call(answers.aclose)

    def dicom(self, files: Sequence[File]) -> bytes:
        """Returns the answers to files as DICOM objects in one zip; see `AsyncClient.dicom`."""
        return self._portal.call(self._async.dicom, files)

    def feedback(self, answer: Answer, label: str) -> None:
        """Says that `label` is right for the study of `answer`. Raises ServiceError if that is not kept."""
        self._portal.call(self._async.feedback, answer, label)

    def models(self) -> list[dict[str, Any]]:
        """Returns the models that answer, as /v1/models describes them."""
        return self._portal.call(self._async.models)


async def _next(answers: AsyncIterator[FileAnswer]) -> FileAnswer | None:
    return await anext(answers, None)
