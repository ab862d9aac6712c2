"""Invitations, certificate requests and signed reports, by which an installation and a device know each other.

A device's key is made on the device and never leaves it. An invitation is a text for one use, which also pins the root
metadata that the device trusts from then on.
"""

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509.oid import NameOID

from echoplane.edge.fleet import check_device
from echoplane.errors import ConfigError

PREFIX = "edge1"
INVITATION = re.compile(rf"^{PREFIX}\.([A-Za-z0-9_-]{{43}})\.([0-9a-f]{{64}})\.(.+)$")
CURVE = ec.SECP256R1()
PURPOSE = b"echoplane edge report 1\n"
"""What a device signs begins with this, so that a signature of something else is none of a report."""


@dataclass(frozen=True)
class Invitation:
    """Text for one use by one device. Only the SHA-256 of its secret is kept where it was made."""

    device: str
    secret: str
    root_sha256: str

    def __str__(self) -> str:
        return f"{PREFIX}.{self.secret}.{self.root_sha256}.{self.device}"


def new_invitation(device: str, root: bytes) -> Invitation:
    """Makes an invitation for `device` that pins the root metadata `root`."""
    return Invitation(check_device(device), secrets.token_urlsafe(32), hashlib.sha256(root).hexdigest())


def read_invitation(text: str) -> Invitation:
    """Reads an invitation. Raises ConfigError, which does not show the text, if it is none."""
    found = INVITATION.match(text.strip())
    if found is None:
        raise ConfigError("this is no invitation of `echoplane edge invite`; copy the whole text.")
    return Invitation(check_device(found[3]), found[1], found[2])


def digest(secret: str) -> str:
    """Returns the SHA-256 of an invitation's secret: 256 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def request_for(device: str, key: ec.EllipticCurvePrivateKey) -> str:
    """Returns a certificate request in PEM for `device`, signed by its key."""
    builder = x509.CertificateSigningRequestBuilder(name_of(device))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def name_of(device: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])


def public_pem(key: ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed(report: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Returns `report` with its signature by the device's key, as one JSON object."""
    signature = key.sign(PURPOSE + report, ec.ECDSA(hashes.SHA256()))
    return json.dumps({"signed": report.decode(), "signature": base64.b64encode(signature).decode()}).encode()


def unsealed(content: bytes) -> tuple[bytes, bytes]:
    """Returns a report and its signature, which is empty for one that is not signed; unverified."""
    try:
        found = json.loads(content)
        return found["signed"].encode(), base64.b64decode(found["signature"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return content, b""


def is_signed(report: bytes, signature: bytes, key_pem: str) -> bool:
    """Returns True if the key in `key_pem` (PEM) signed `report`."""
    key = load_pem_public_key(key_pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, PURPOSE + report, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
