"""HTTP/1.1 connections: a time limit for headers, keep-alive connections that end cleanly at shutdown, and a TLS
certificate that is renewed.

Uvicorn does not limit the time of a request's headers. While it shuts down, it closes an idle connection that receives
a request without answering it, and the client sees a reset.
"""

import asyncio
import functools
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.certificates import RenewedCertificate

HEADER_TIMEOUT_S = 10.0
"""Maximum time from the first byte of a request, or from the opening of the connection, to the end of the headers."""


@functools.cache
def _certificate(config: Config) -> RenewedCertificate | None:
    """Returns the certificate of a server; None if it has no TLS."""
    if not config.ssl or not config.ssl_certfile:
        return None
    key = str(config.ssl_keyfile) if config.ssl_keyfile else None
    return RenewedCertificate(config.ssl, str(config.ssl_certfile), key, config.ssl_keyfile_password)


class HttpProtocol(H11Protocol):
    """Uvicorn's protocol with all three. At shutdown an idle connection answers one more request, with `Connection:
    close`, or is closed by its keep-alive timeout (uvicorn's is 5 s)."""

    _header_timer: asyncio.TimerHandle | None = None
    _stopping = False

    def __init__(self, config: Config, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        if certificate := _certificate(config):
            certificate.renew()  # before the handshake: the event loop makes the protocol first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:  # the headers of a request are not complete yet
            self._start_header_timer()
        else:
            self._stop_header_timer()
        if self._stopping:
            self._close_after_response()

    def shutdown(self) -> None:
        self._stopping = True
        self._close_after_response()

    def _close_after_response(self) -> None:
        """Ends the connection after the response in progress, if there is one."""
        if self.cycle and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            headers = cast(list[tuple[bytes, bytes]], self.scope["headers"])
            if CLOSE_HEADER not in headers:
                headers.append(CLOSE_HEADER)  # uvicorn repeats it in the response

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_TIMEOUT_S, self.timeout_keep_alive_handler)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
