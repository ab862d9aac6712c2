"""Renews the certificate of a TLS server without a restart: connections that begin after its files changed get it."""

import logging
import math
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger("echoplane.serving")

CHECK_S = 60.0
"""Minimum time between two looks at the files."""

FileState = tuple[int, int, int]


class RenewedCertificate:
    """Certificate and key of a server's TLS context, loaded again after their files have changed. It lives on one
    thread."""

    def __init__(
        self, context: ssl.SSLContext, certificate: str, key: str | None = None, password: str | None = None
    ) -> None:
        """`key` is not needed if the file of the certificate holds it too."""
        self._context, self._certificate, self._key = context, certificate, key or None
        self._password = password or ""  # without one, OpenSSL would ask at the terminal for that of an encrypted key
        self._looked_s = -math.inf
        self._seen: Sequence[FileState] | None = None

    def renew(self) -> None:
        """Loads the files if they have changed since the last look, which was at least CHECK_S ago.

        Files that are missing, or do not belong together, leave the pair before them in use. The first call loads them
        anyway: they may have changed since the context was made.
        """
        if time.monotonic() - self._looked_s < CHECK_S:
            return
        self._looked_s = time.monotonic()
        before = self._seen
        self._seen = [_state(path) for path in (self._certificate, self._key) if path]
        if self._seen == before:
            return
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # one half alone would spoil the context in use
            self._load(self._context)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            log.error("the changed TLS certificate cannot be loaded (%s); the old one stays in use.", reason)  # noqa: TRY400
            return
        if before is not None:
            log.info("the changed TLS certificate is in use.")

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._certificate, self._key, self._password)


def _state(path: str) -> FileState:
    """Returns what changes when a file is replaced; the same for every file that cannot be read."""
    try:
        stat = Path(path).stat()
    except OSError:
        return (0, 0, 0)
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
