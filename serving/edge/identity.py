"""The device's identity: a key that never leaves it, and a short-lived certificate that it gets by an invitation.

Enrolment and renewal are tried in every cycle until they succeed; whatever fails, the service goes on.
"""

import hashlib
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from echoplane.edge.identity import CURVE, Invitation, name_of, public_pem, read_invitation, request_for, signed
from echoplane.errors import ConfigError, EchoplaneError, explained
from echoplane.files import write_atomically
from serving.edge.settings import EdgeSettings
from serving.edge.state import device_id
from serving.loopback import is_loopback

log = logging.getLogger("echoplane.edge")

OWNER_ONLY = 0o600
LEFT_SHARE = 1 / 3
"""Share of a certificate's lifetime at whose begin it is renewed."""


class NotEnrolled(EchoplaneError):
    """Raised if the device gets no certificate now."""


def root_path(settings: EdgeSettings) -> Path:
    """Returns the file of the root metadata: the configured one, or that which an invitation pinned."""
    return settings.root_file or settings.folder / "identity" / "root.json"


class Identity:
    """The device's identity below its folder. Raises ConfigError if the settings contradict each other."""

    def __init__(self, settings: EdgeSettings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings, self._clock, self._folder = settings, clock, settings.folder / "identity"
        self._certificate = self._folder / "certificate.pem"
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._invitation = self._read_invitation()
        invited = self._invitation.device if self._invitation else ""
        self.device = device_id(settings.folder, settings.device, invited)
        if invited not in ("", self.device):
            raise ConfigError("the invitation is for another device than ECHOPLANE_EDGE_DEVICE, or than this one.")
        self.context = _context(settings.ca_file)
        self._load()

    @property
    def is_enrolled(self) -> bool:
        return self._certificate.is_file()

    def keep(self, client: httpx.Client) -> str:
        """Enrols or renews if it is due, and returns in a sentence what failed; empty if nothing did."""
        try:
            if self._invitation and not self.is_enrolled:
                self._enrol(client, self._invitation)
            elif self._settings.enrolment_url and self.is_enrolled and self._is_due():
                self._renew(client)
        except (EchoplaneError, OSError, ValueError) as error:
            return f"the certificate: {explained(error)}"
        return ""

    def sealed(self, report: bytes) -> bytes:
        """Returns a report as it is sent: signed by the device's key if it is enrolled."""
        return signed(report, self._key()) if self.is_enrolled else report

    def _read_invitation(self) -> Invitation | None:
        path = self._settings.invitation_file
        if self.is_enrolled or path is None:
            return None
        if not self._settings.enrolment_url:
            raise ConfigError("ECHOPLANE_EDGE_INVITATION_FILE needs ECHOPLANE_EDGE_ENROLMENT_URL.")
        try:
            return read_invitation(path.read_text())
        except OSError as error:
            raise ConfigError(f"ECHOPLANE_EDGE_INVITATION_FILE can't be read ({error.strerror}).") from None

    def _enrol(self, client: httpx.Client, invitation: Invitation) -> None:
        answer = self._asked(client, "enrol", {"secret": invitation.secret})
        root = answer["root"].encode()
        if hashlib.sha256(root).hexdigest() != invitation.root_sha256:
            raise NotEnrolled("the server's root metadata is not the one that the invitation pins.")
        write_atomically(self._folder / "root.json", root)
        self._keep_certificate(answer["certificate"])

    def _renew(self, client: httpx.Client) -> None:
        answer = self._asked(client, "renew", {"certificate": self._certificate.read_text()})
        self._keep_certificate(answer["certificate"])

    def _asked(self, client: httpx.Client, action: str, body: dict[str, str]) -> dict[str, str]:
        url = httpx.URL(f"{self._settings.enrolment_url.rstrip('/')}/v1/{action}")
        if url.scheme != "https" and not is_loopback(url.host):
            raise NotEnrolled("ECHOPLANE_EDGE_ENROLMENT_URL must begin with https.")
        request = request_for(self.device, self._key())
        try:
            response = client.post(url, json=body | {"request": request})
            found: Any = response.json()
        except httpx.HTTPError as error:
            raise NotEnrolled(f"the enrolment is out of reach ({type(error).__name__}).") from None
        except ValueError:
            raise NotEnrolled(f"the enrolment answers HTTP {response.status_code} without sense.") from None
        if not response.is_success:
            raise NotEnrolled(f"the enrolment refuses: {found.get('problem') if isinstance(found, dict) else ''}")
        wanted = ("certificate", "root")
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in wanted):
            raise NotEnrolled("the enrolment's answer holds no certificate.")
        return found

    def _keep_certificate(self, content: str) -> None:
        made = x509.load_pem_x509_certificate(content.encode())
        key = made.public_key()
        mine = isinstance(key, ec.EllipticCurvePublicKey) and public_pem(key) == public_pem(self._key().public_key())
        if not mine or made.subject != name_of(self.device):
            raise NotEnrolled("the enrolment's certificate is not for this device and its key.")
        write_atomically(self._certificate, content.encode())
        self._load()

    def _is_due(self) -> bool:
        """Returns True near the end of the certificate's time, and whenever the clock says that it is not valid."""
        present = x509.load_pem_x509_certificate(self._certificate.read_bytes())
        begin, end = present.not_valid_before_utc, present.not_valid_after_utc
        return not begin <= self._clock() < end - LEFT_SHARE * (end - begin)

    def _key(self) -> ec.EllipticCurvePrivateKey:
        """Returns the device's key, which is made when it is first needed."""
        path = self._folder / "key.pem"
        if not path.is_file():
            made = ec.generate_private_key(CURVE)
            content = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_atomically(path, content, OWNER_ONLY)
        key = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError("key.pem of the device is no key on an elliptic curve.")
        return key

    def _load(self) -> None:
        """Makes connections from now on show the certificate. Without a usable one the agent goes on."""
        if self.is_enrolled:
            try:
                self.context.load_cert_chain(self._certificate, self._folder / "key.pem")
            except OSError as error:
                log.warning("the certificate can't be used: %s", explained(error))


def _context(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file)) if ca_file else httpx.create_ssl_context()
