"""Signing keys as files: one Ed25519 key per file, PKCS #8 in PEM, readable by its owner alone.

Keys of the roles root and targets belong offline, on separate media; those of the roles snapshot, timestamp and plan
stay with the machine that publishes, since they sign often.
"""

from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey

from echoplane.errors import ConfigError
from echoplane.files import write_atomically

OWNER_ONLY = 0o600


def new_key(path: Path) -> CryptoSigner:
    """Makes a key and writes it to `path`. Raises ConfigError if the file exists."""
    if path.exists():
        raise ConfigError(f"{path.name} exists; a key is never overwritten. Give another folder for the keys.")
    signer = CryptoSigner.generate_ed25519()
    write_atomically(path, signer.private_bytes, OWNER_ONLY)
    return signer


def read_keys(folders: Iterable[Path]) -> dict[str, CryptoSigner]:
    """Returns the keys in `folders` and below them, by key id. Raises ConfigError if a file is no key."""
    signers = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*.pem")):
        try:
            private = load_pem_private_key(path.read_bytes(), None)
            signer = CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
        except (ValueError, TypeError):
            raise ConfigError(f"{path.name} is no unencrypted private key in PEM.") from None
        signers[signer.public_key.keyid] = signer
    return signers
