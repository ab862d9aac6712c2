"""Client of the service: asks it about one file and returns the answers of the tasks that accepted it."""

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import httpx

from serving.gateway.settings import GatewaySettings, Rule
from serving.gateway.store import Instance
from serving.gateway.work_errors import GiveUp, TryAgain

RETRIED = (408, 429, 500, 502, 503, 504)
ACCESS = (401, 403)
FILE_NAME = "file"
"""Name under which every file is sent: an instance's own name could identify somebody."""


class Service:
    """HTTP connection to the service."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        timeout = httpx.Timeout(settings.request_timeout_s, connect=10)
        self._client = httpx.Client(base_url=settings.service_url, timeout=timeout, follow_redirects=False)

    def close(self) -> None:
        self._client.close()

    def ask(self, site: str, rule: Rule, instances: Sequence[Instance]) -> list[dict[str, Any]]:
        """Returns the answers to one instance, or to several as one study in a zip; empty if no task accepts them.

        Raises TryAgain if the service is unavailable or busy, GiveUp if it refuses the gateway's token.
        """
        if rule.send == "files":
            with instances[0].path.open("rb") as file:
                return self._ask_all(site, rule, file)
        with tempfile.TemporaryFile(dir=instances[0].path.parent) as file:
            _write_zip(cast(BinaryIO, file), instances)
            return self._ask_all(site, rule, cast(BinaryIO, file))

    def _ask_all(self, site: str, rule: Rule, file: BinaryIO) -> list[dict[str, Any]]:
        if not rule.tasks:
            body = self._post(site, "/v1/study", file) or {"files": []}
            return [each["answer"] for each in _answered(body["files"])]
        answers = (self._post(site, f"/v1/{task}", file) for task in rule.tasks)
        return [answer for answer in answers if answer is not None]

    def _post(self, site: str, path: str, file: BinaryIO) -> dict[str, Any] | None:
        """Returns the body of an answer; None if the service refuses the file."""
        file.seek(0)
        try:
            response = self._client.post(path, files={"file": (FILE_NAME, file)}, headers=self._headers(site))
        except httpx.TransportError as error:
            raise TryAgain(f"the service cannot be reached ({type(error).__name__})") from None
        if response.status_code in RETRIED:
            raise TryAgain(f"the service answered with status {response.status_code}")
        if response.status_code in ACCESS:
            raise GiveUp("the service refuses the gateway's token; check ECHOPLANE_GATEWAY_TOKEN_FILE")
        if response.is_client_error:
            return None
        if response.status_code != httpx.codes.OK:
            raise TryAgain(f"the service answered with status {response.status_code}")
        return response.json()

    def _headers(self, site: str) -> dict[str, str]:
        name = self._settings.token_files.get(site) or self._settings.token_file
        return bearer(name)


def bearer(token_file: str) -> dict[str, str]:
    """Returns the header with the token of a file, which is read each time so that it can be renewed."""
    if not token_file:
        return {}
    try:
        token = Path(token_file).read_text().strip()
    except OSError:
        raise TryAgain("the token file cannot be read") from None
    if not token.isascii() or not token.isprintable() or " " in token:
        raise GiveUp("the token file does not hold one token")
    return {"Authorization": f"Bearer {token}"}


def _answered(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the entries with an answer. Raises TryAgain if one holds a problem of the service and not of the file."""
    for each in files:
        status = (each.get("problem") or {}).get("status", 0)
        if status in RETRIED:
            raise TryAgain(f"the service answered with status {status}")
    return [each for each in files if each.get("answer")]


def _write_zip(file: BinaryIO, instances: Sequence[Instance]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, instance in enumerate(instances):
            archive.write(instance.path, f"{number:05d}.dcm")
