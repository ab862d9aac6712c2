"""The service's app without a server or processes: real requests through all of its layers."""

import asyncio
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from echoplane.settings import ServingSettings
from serving.api.http import app
from serving.api.models.slots import Slot
from serving.api.models.sources import FolderSource
from tests.tiny_bundle import TASK, make_tiny_bundle


class Asking:
    """Requests to one app, without a server; `host` is the address that they reach."""

    def __init__(self, slot: Slot | Mapping[str, Slot], settings: ServingSettings, host: str = "10.1.2.3") -> None:
        self.service = app.Service({slot.task: slot} if isinstance(slot, Slot) else slot, settings)
        self.app = app.build(self.service)
        self.loop, self._url = asyncio.new_event_loop(), f"http://{host}:3000"
        weakref.finalize(self, self.loop.close)

    def __call__(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        """Returns the answer, once the threads that outlive their request's deadline have ended too."""
        return self.loop.run_until_complete(self._settled(method, path, token, **options))

    async def _settled(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        response = await self.send(method, path, token, **options)
        while self.service.admission.held_bytes:
            await asyncio.sleep(0.01)
        return response

    async def send(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        headers |= options.pop("headers", {})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=self._url) as client:
            return await client.request(method, path, headers=headers, **options)


@contextmanager
def tiny_slot(folder: Path) -> Iterator[Slot]:
    """Yields a slot that answers with the tiny bundle, made in `folder`, and closes it."""
    slot = Slot(TASK, FolderSource(make_tiny_bundle(folder / "tiny")), {})
    slot.refresh()
    yield slot
    slot.close()


def posted(data: bytes) -> dict[str, Any]:
    """Returns the options of a request whose body is one DICOM file."""
    return {"content": data, "headers": {"content-type": "application/dicom"}}
