"""A certificate that is renewed while the service runs."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from serving import certificates
from serving.certificates import RenewedCertificate
from serving.http_protocol import HttpProtocol
from tests.certificates import Authority

HOST = "127.0.0.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "hospital")


@pytest.fixture
def pair(authority: Authority) -> tuple[str, str]:
    return authority.issue("service", "service.hospital")


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def served(pair: tuple[str, str], check: Callable[[int], None]) -> None:
    """Runs `check` on a thread with the port of a server that has this pair."""

    async def run() -> None:
        config = uvicorn.Config(
            answer,
            HOST,
            0,
            http=HttpProtocol,
            lifespan="off",
            log_config=None,
            ssl_certfile=pair[0],
            ssl_keyfile=pair[1],
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            await asyncio.to_thread(check, server.servers[0].sockets[0].getsockname()[1])
        finally:
            server.should_exit = True
            await serving

    asyncio.run(run())


def shown(port: int) -> str:
    """Returns the certificate that a new connection is shown."""
    return ssl.get_server_certificate((HOST, port), timeout=5)


def test_a_renewed_pair_is_shown_without_a_restart_and_a_broken_one_is_not(
    authority: Authority, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificates, "CHECK_S", 0.0)
    caplog.set_level(logging.INFO, "echoplane.serving")
    certificate, key = map(Path, pair)
    first = certificate.read_text()

    def check(port: int) -> None:
        trusted = ssl.create_default_context(cafile=str(authority.path))
        trusted.check_hostname = False
        with httpx.Client(base_url=f"https://{HOST}:{port}", verify=trusted, trust_env=False) as kept:
            assert kept.get("/").text == "ok"
            assert shown(port) == first
            old_key = key.read_bytes()
            authority.issue("service", "service.hospital")
            second = certificate.read_text()
            assert shown(port) == second != first
            assert kept.get("/").text == "ok"
            key.write_bytes(old_key)
            assert [shown(port) for _ in range(3)] == [second] * 3
            certificate.unlink()
            assert [shown(port) for _ in range(2)] == [second] * 2
            authority.issue("service", "service.hospital")
            assert shown(port) == certificate.read_text() not in (first, second)

    served(pair, check)
    said = [record.getMessage() for record in caplog.records if record.name == "echoplane.serving"]
    assert ["cannot be loaded" in line for line in said] == [False, True, True, False]
    assert "KEY_VALUES_MISMATCH" in said[1]
    assert not [line for line in said if str(certificate.parent) in line]


def test_the_files_are_looked_at_once_a_minute(
    authority: Authority, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(certificates.time, "monotonic", lambda: now_s[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    loads: list[float] = []
    renewed = RenewedCertificate(context, *pair)
    monkeypatch.setattr(renewed, "_load", lambda _: loads.append(now_s[0]))
    for now_s[0] in (1000.0, 1059.0, 1060.0, 1121.0):
        renewed.renew()
    assert set(loads) == {1000.0}
    authority.issue("service", "service.hospital")
    for now_s[0] in (1180.0, 1181.0, 1182.0, 1241.0):
        renewed.renew()
    assert set(loads) == {1000.0, 1181.0}


def test_a_renewal_before_the_first_connection_is_noticed(authority: Authority, pair: tuple[str, str]) -> None:
    def check(port: int) -> None:
        authority.issue("service", "service.hospital")
        assert shown(port) == Path(pair[0]).read_text()

    served(pair, check)
