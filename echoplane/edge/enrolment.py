"""Enrolment of devices: invitations for one use, and short-lived client certificates by an authority of its own.

The folder holds the authority's key, the root metadata that invitations pin, and a database of invitations (their
SHA-256 alone) and of devices with their public keys. The process `serving/enrolment` and the command `echoplane edge
invite` share it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from echoplane.edge.identity import CURVE, Invitation, digest, name_of, new_invitation, public_pem
from echoplane.edge.keys import OWNER_ONLY
from echoplane.errors import ConfigError, EchoplaneError
from echoplane.files import write_atomically

AUTHORITY_DAYS = 3650
SLACK = timedelta(hours=1)
"""A certificate is valid from this long before it was made, for devices whose clock is late."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS invitations (digest TEXT PRIMARY KEY, device TEXT, expires REAL, key TEXT);
CREATE TABLE IF NOT EXISTS devices (device TEXT PRIMARY KEY, key TEXT, enrolled REAL);
"""


class Refused(EchoplaneError):
    """Raised if a device gets no certificate; the message tells it why, and nothing about other devices."""


class Enrolment:
    """The enrolment in `folder`. Raises ConfigError if there is none."""

    def __init__(self, folder: Path, valid_days: float = 7, grace_days: float = 30) -> None:
        self._valid, self._grace = timedelta(days=valid_days), timedelta(days=grace_days)
        try:
            key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
            self.authority = (folder / "ca.crt").read_bytes()
            self.root = (folder / "root.json").read_bytes()
        except OSError:
            raise ConfigError("the folder holds no enrolment; `echoplane edge invite` makes it.") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError("ca.key of the enrolment is no key on an elliptic curve.")
        self._key, self._ca = key, x509.load_pem_x509_certificate(self.authority)
        self._path = folder / "enrolment.sqlite"
        with self._database() as database:
            database.executescript(SCHEMA)

    def invite(self, device: str, valid: timedelta, now: datetime) -> Invitation:
        """Makes an invitation for `device` that is valid for the time `valid` and takes the place of earlier ones."""
        made = new_invitation(device, self.root)
        with self._database() as database:
            database.execute("DELETE FROM invitations WHERE device = ? OR expires < ?", (device, now.timestamp()))
            until = (now + valid).timestamp()
            database.execute("INSERT INTO invitations VALUES (?, ?, ?, NULL)", (digest(made.secret), device, until))
        return made

    def enrol(self, secret: str, request: str, now: datetime) -> str:
        """Returns a certificate (PEM) for the device that was invited, by its secret and its certificate request.

        A secret works once; again only for the same key, so that a device whose answer got lost can ask again. Raises
        Refused.
        """
        asked, key = _checked(request)
        with self._database() as database:
            find = "SELECT device, key FROM invitations WHERE digest = ? AND expires > ?"
            found = database.execute(find, (digest(secret), now.timestamp())).fetchone()
            if found is None:
                raise Refused("the invitation is unknown or has expired.")
            device, used_by = found
            if asked.subject != name_of(device):
                raise Refused("the request names another device than the invitation.")
            if used_by is not None and (used_by != key or self._key_of(database, device) != key):
                raise Refused("the invitation was used.")
            database.execute("UPDATE invitations SET key = ? WHERE digest = ?", (key, digest(secret)))
            database.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (device, key, now.timestamp()))
        return self._certificate(device, asked, now)

    def renew(self, certificate: str, request: str, now: datetime) -> str:
        """Returns the next certificate (PEM) of a device that has one, for the same key and name.

        The request is signed by the key, so a copy of it, or of the certificate, is of no use to others. A certificate
        that has expired renews for the days of grace, since devices are offline for weeks. Raises Refused.
        """
        asked, key = _checked(request)
        try:
            present = x509.load_pem_x509_certificate(certificate.encode())
            present.verify_directly_issued_by(self._ca)
        except (ValueError, TypeError, InvalidSignature):
            raise Refused("the certificate is not of this installation.") from None
        if present.not_valid_after_utc + self._grace < now:
            raise Refused("the certificate expired too long ago; the device needs another invitation.")
        device = str(present.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        with self._database() as database:
            known = self._key_of(database, device)
        if known is None or known != key or known != _pem_of(present.public_key()) or asked.subject != present.subject:
            raise Refused("the device is not enrolled with this name and key.")
        return self._certificate(device, asked, now)

    def revoke(self, device: str) -> bool:
        """Forgets a device and its invitations, and returns whether it was enrolled: it gets no other certificate, and
        its reports no longer count."""
        with self._database() as database:
            database.execute("DELETE FROM invitations WHERE device = ?", (device,))
            return database.execute("DELETE FROM devices WHERE device = ?", (device,)).rowcount > 0

    def keys(self) -> dict[str, str]:
        """Returns the public key (PEM) of each enrolled device."""
        with self._database() as database:
            return dict(database.execute("SELECT device, key FROM devices").fetchall())

    def _key_of(self, database: sqlite3.Connection, device: str) -> str | None:
        found = database.execute("SELECT key FROM devices WHERE device = ?", (device,)).fetchone()
        return None if found is None else str(found[0])

    def _certificate(self, device: str, asked: x509.CertificateSigningRequest, now: datetime) -> str:
        """Signs a certificate for clients. Of the request, the key alone is taken."""
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = _valid(now - SLACK, now + self._valid, name_of(device), asked.public_key(), self._ca.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        return made.public_bytes(Encoding.PEM).decode()

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Yields the database within one transaction, which other processes wait for."""
        with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK") if database.in_transaction else None
                raise
            database.execute("COMMIT") if database.in_transaction else None


def create(folder: Path, root: bytes, now: datetime) -> None:
    """Makes an authority and its folder, which only its owner may read. Raises ConfigError if the folder holds one."""
    if (folder / "ca.key").exists():
        raise ConfigError("the folder holds an enrolment; its key is never overwritten.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(CURVE)
    name = name_of("echoplane edge enrolment")
    builder = _valid(now - SLACK, now + timedelta(days=AUTHORITY_DAYS), name, key.public_key(), name)
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    authority = builder.add_extension(constraints, critical=True).sign(key, hashes.SHA256())
    write_atomically(folder / "root.json", root)
    write_atomically(folder / "ca.crt", authority.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_atomically(folder / "ca.key", private, OWNER_ONLY)


def _valid(begin: datetime, end: datetime, name: x509.Name, key: object, issuer: x509.Name) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, name, key, x509.random_serial_number())  # type: ignore[arg-type]
    return builder.not_valid_before(begin).not_valid_after(end)


def _checked(request: str) -> tuple[x509.CertificateSigningRequest, str]:
    """Returns a certificate request and its public key in PEM. Raises Refused unless it is signed by a key on P-256."""
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        valid = asked.is_signature_valid
    except (ValueError, TypeError):
        raise Refused("the certificate request cannot be read.") from None
    key = _pem_of(asked.public_key())
    if not valid or not key:
        raise Refused("the certificate request is not signed by a key on the curve P-256.")
    return asked, key


def _pem_of(key: object) -> str:
    """Returns a public key in PEM; empty for one that is not on P-256."""
    is_known = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    return public_pem(key) if is_known and isinstance(key, ec.EllipticCurvePublicKey) else ""
