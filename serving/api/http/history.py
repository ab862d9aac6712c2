"""`GET /v1/history`: what the dashboard's panels showed in the past, read from a Prometheus by the service.

Ranges, points, lines and time are bounded, and what Prometheus said is kept for a while, so that many open dashboards
ask it no more often than one does.
"""

import asyncio
import logging
import math
import time
from pathlib import Path
from typing import Any, Literal, get_args

import httpx
from fastapi import FastAPI, Request, Response

from echoplane.errors import ConfigError
from echoplane.monitoring.dashboard_history import queries
from echoplane.monitoring.dashboards import SERVICE, Panel
from echoplane.settings import ServingSettings
from serving.api.http import problems
from serving.api.http.openapi import problem_response
from serving.api.http.schemas import Body
from serving.api.http.service import json_response

log = logging.getLogger("echoplane.serving")

Range = Literal["1h", "6h", "24h", "7d"]
SECONDS: dict[Range, int] = {"1h": 3600, "6h": 6 * 3600, "24h": 24 * 3600, "7d": 7 * 24 * 3600}
RANGE = {
    "name": "range",
    "in": "query",
    "description": "Length of the history.",
    "schema": {"type": "string", "enum": list(get_args(Range)), "default": "1h"},
}
POINTS = 120
MIN_WINDOW_S = 120
"""Shortest time over which a rate is a mean: several scrapes of a Prometheus that scrapes every 30 s."""
MAX_LINES = 30
MAX_BYTES = 4 << 20
TIMEOUT_S = 10.0
KEPT_S = 15.0


class HistoryPanelBody(Body):
    """History of one panel."""

    title: str
    """Title of the panel."""
    lines: dict[str, list[tuple[float, float]]]
    """Points of each line: time in seconds since 1970, and value."""


class HistoryBody(Body):
    """History of the dashboard's charts."""

    configured: bool
    """False if the service has no Prometheus to ask; there are then no panels."""
    range_s: int
    """Length of the history in seconds."""
    end_s: float
    """End of the history, in seconds since 1970."""
    panels: list[HistoryPanelBody]
    """One entry per chart, in the dashboard's order."""


class History:
    """Reads from one Prometheus. Raises ConfigError if the address is wrong."""

    def __init__(self, settings: ServingSettings) -> None:
        self._url, self._labels = settings.prometheus_url.rstrip("/"), settings.prometheus_labels
        if self._url and not self._url.startswith(("http://", "https://")):
            raise ConfigError("ECHOPLANE_PROMETHEUS_URL: expected an address that begins with http:// or https://.")
        self._token_file = settings.prometheus_token_file
        self._kept: dict[Range, tuple[float, HistoryBody | None]] = {}
        self._lock = asyncio.Lock()

    async def read(self, length: Range) -> HistoryBody:
        """Returns the history of this length. Raises Problem 503 if Prometheus gives none."""
        if not self._url:
            return HistoryBody(configured=False, range_s=SECONDS[length], end_s=time.time(), panels=[])
        async with self._lock:
            read_s, body = self._kept.get(length, (-math.inf, None))
            if time.monotonic() - read_s > KEPT_S:
                body = await self._read(SECONDS[length])
                self._kept[length] = time.monotonic(), body
        if body is None:
            raise problems.history_unavailable()
        return body

    async def _read(self, range_s: int) -> HistoryBody | None:
        """Returns the history; None if Prometheus gives none."""
        end_s = time.time()
        charts = [panel for panel in SERVICE if panel.kind != "table"]
        try:
            async with asyncio.timeout(TIMEOUT_S), self._client() as client:
                panels = await asyncio.gather(*(self._panel(client, panel, range_s, end_s) for panel in charts))
        except (httpx.HTTPError, OSError, TimeoutError, ValueError, KeyError, TypeError, IndexError) as error:
            log.warning("Prometheus gives no history (%s).", type(error).__name__)
            return None
        return HistoryBody(configured=True, range_s=range_s, end_s=end_s, panels=list(panels))

    def _client(self) -> httpx.AsyncClient:
        headers = {}
        if self._token_file:
            headers["authorization"] = f"Bearer {Path(self._token_file).read_text().strip()}"
        return httpx.AsyncClient(base_url=self._url, headers=headers, timeout=TIMEOUT_S, follow_redirects=False)

    async def _panel(self, client: httpx.AsyncClient, panel: Panel, range_s: int, end_s: float) -> HistoryPanelBody:
        step_s = range_s // POINTS
        lines: dict[str, list[tuple[float, float]]] = {}
        for query, name in queries(panel, max(step_s, MIN_WINDOW_S), self._labels):
            for series in await _series(client, query, (end_s - range_s, end_s), step_s):
                points = [(float(at), float(value)) for at, value in series["values"]]
                finite = [(at, value) for at, value in points if math.isfinite(value)]
                if finite and len(lines) < MAX_LINES:
                    lines[name or str(series["metric"].get(panel.by, ""))[:100]] = finite
        return HistoryPanelBody(title=panel.title, lines=lines)


async def _series(
    client: httpx.AsyncClient, query: str, between_s: tuple[float, float], step_s: int
) -> list[dict[str, Any]]:
    """Returns the series of a query between two times. Raises ValueError if the answer is too large or failed."""
    asked = {"query": query, "start": between_s[0], "end": between_s[1], "step": step_s, "timeout": f"{TIMEOUT_S:g}s"}
    content = bytearray()
    async with client.stream("POST", "/api/v1/query_range", data=asked) as response:
        response.raise_for_status()
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > MAX_BYTES:
                raise ValueError("the answer is too large")
    body = httpx.Response(200, content=bytes(content)).json()
    if body["status"] != "success":
        raise ValueError("the query failed")
    return list(body["data"]["result"])


def add_history(app: FastAPI, path: str, settings: ServingSettings) -> None:
    history = History(settings)

    @app.get(
        path,
        response_model=HistoryBody,
        summary="History of the dashboard's charts, from Prometheus",
        responses={400: problem_response()},
        openapi_extra={"parameters": [RANGE]},
    )
    async def read(request: Request) -> Response:
        length = request.query_params.get("range", "1h")
        if length not in SECONDS:
            raise problems.bad_request(f"the range is none of {', '.join(SECONDS)}.")
        return json_response(await history.read(length))
