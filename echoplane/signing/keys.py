"""Keys of signed promotions: the private key of whoever promotes, and the file of public keys that loaders trust.

The private key is PEM (PKCS#8) in a file of mode 0600 or in the variable ECHOPLANE_SIGNING_KEY. The file of trusted
keys is JSON and holds no secret: several keys per task allow rotation, and a revoked key stays listed so that it cannot
be added again by mistake. Without any setting, both are in the user's own configuration folder.
"""

import base64
import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import ConfigError, wrong_field
from echoplane.files import write_atomically

SIGNING_KEY, TRUSTED_KEYS = "signing.key", "trusted-keys.json"
KEY_VARIABLE, KEY_FILE_VARIABLE = "ECHOPLANE_SIGNING_KEY", "ECHOPLANE_SIGNING_KEY_FILE"
OTHERS = 0o077
OTHERS_MAY_WRITE = 0o022
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


@dataclass(frozen=True)
class SigningKey:
    """Private key; its repr shows only the id."""

    id: str
    private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.id})"

    @property
    def public(self) -> str:
        """Returns the public key, base64."""
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()


class PublicKey(BaseModel):
    """A trusted public key."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: KeyId
    """First 16 hexadecimal digits of the SHA-256 of the key."""
    public_key: str = Field(pattern=r"^[A-Za-z0-9+/]{43}=$")
    """The 32 bytes of the Ed25519 key, base64."""
    name: str = Field(pattern=NAME)
    """Holder of the private key."""
    tasks: tuple[str, ...] = ()
    """Tasks for which the key may sign; empty for every task."""

    def verifier(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(self.public_key))


class TrustedKeys(BaseModel):
    """Content of the file of trusted keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = Field(1, alias="schema")
    keys: tuple[PublicKey, ...] = ()
    revoked: dict[KeyId, str] = {}
    """Reason by id of a key whose signatures are no longer accepted."""

    def by_id(self, key_id: str) -> PublicKey | None:
        """Returns the key with this id; None if there is none or its id is not the digest of its bytes."""
        for key in self.keys:
            if key.id == key_id == key_id_of(base64.b64decode(key.public_key)):
                return key
        return None


def key_id_of(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def new_signing_key(path: Path) -> SigningKey:
    """Makes a key and writes it to `path`, mode 0600. Raises ConfigError if the file exists: it would be lost."""
    if path.exists():
        raise ConfigError("the file of the signing key exists already; name another, or remove it first.")
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomically(path, pem, mode=0o600)
    return _signing_key(private)


def read_signing_key(environment: Mapping[str, str] = os.environ) -> SigningKey | None:
    """Returns the key in ECHOPLANE_SIGNING_KEY, or in the file that ECHOPLANE_SIGNING_KEY_FILE names, or else the
    user's own; None if there is none. Raises ConfigError if it is not an Ed25519 key or if others may read its file."""
    if text := environment.get(KEY_VARIABLE):
        return _parsed(text.encode())
    named = environment.get(KEY_FILE_VARIABLE)
    folder = own_folder(environment)
    path = Path(named) if named else folder / SIGNING_KEY if folder else None
    if path is None or not (named or path.is_file()):
        return None
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS:
                raise ConfigError("others than the owner may read the signing key; chmod 600 its file.")
            return _parsed(file.read())
    except OSError as error:
        raise ConfigError(f"the signing key cannot be read ({error.strerror}).") from None


def _parsed(pem: bytes) -> SigningKey:
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise ConfigError(
            "the signing key is not PEM without a password; make one with `echoplane keys make`."
        ) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError("the signing key is not an Ed25519 key; make one with `echoplane keys make`.")
    return _signing_key(private)


def _signing_key(private: Ed25519PrivateKey) -> SigningKey:
    return SigningKey(key_id_of(private.public_key().public_bytes_raw()), private)


def own_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Returns the folder of the user's own keys; None if the process has no home."""
    if base := environment.get("XDG_CONFIG_HOME"):
        return Path(base) / "echoplane"
    home = environment.get("HOME")
    return Path(home) / ".config" / "echoplane" if home else None


def ensure_own_keys(environment: Mapping[str, str] = os.environ) -> SigningKey | None:
    """Returns the configured signing key; without one, makes a key for this user, trusted by the same user's services.

    For commands that a person runs on a machine of their own; on a cluster the key comes from a Secret.
    """
    key, folder = read_signing_key(environment), own_folder(environment)
    if key is None and folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = new_signing_key(folder / SIGNING_KEY)
        trust(folder / TRUSTED_KEYS, key.public, "own", ())
    return key


def read_trusted_keys(source: str, environment: Mapping[str, str] = os.environ) -> TrustedKeys:
    """Reads trusted keys from `source`: a file, or the JSON itself (starting with a brace), or if empty the user's own
    file. Returns no keys if that is absent. Raises ConfigError if the content is wrong or others may write the file."""
    if source.lstrip().startswith("{"):
        return _trusted(source.encode())
    folder = own_folder(environment)
    path = Path(source) if source else folder / TRUSTED_KEYS if folder else None
    if path is None or not (source or path.is_file()):
        return TrustedKeys(schema=1)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS_MAY_WRITE:
                raise ConfigError("others than the owner may write the file of trusted keys; chmod 644 it.")
            return _trusted(file.read())
    except OSError as error:
        raise ConfigError(f"the file of trusted keys cannot be read ({error.strerror}).") from None


def _trusted(content: bytes) -> TrustedKeys:
    try:
        return TrustedKeys.model_validate_json(content)
    except ValidationError as error:
        raise ConfigError(f"the trusted keys are not what `echoplane keys` writes: {wrong_field(error)}") from None


def trust(path: Path, public_key: str, name: str, tasks: tuple[str, ...]) -> PublicKey:
    """Adds a public key to the file. Raises ConfigError if it is no key, or has been revoked."""
    try:
        raw = base64.b64decode(public_key, validate=True)
        key = PublicKey(id=key_id_of(raw), public_key=public_key, name=name, tasks=tasks)
        key.verifier()
    except ValueError:
        raise ConfigError(
            "a public key is 32 bytes in base64, and NAME has letters, digits, dots and dashes."
        ) from None

    def added(content: TrustedKeys) -> TrustedKeys:
        if key.id in content.revoked:
            raise ConfigError(f"key {key.id} has been revoked ({content.revoked[key.id]}); make another.")
        others = tuple(one for one in content.keys if one.id != key.id)
        return content.model_copy(update={"keys": (*others, key)})

    _change(path, added)
    return key


def revoke(path: Path, key_id: str, reason: str) -> None:
    """Marks a key as revoked: whatever it signed is refused from then on. Raises ConfigError if it is not listed."""

    def revoked(content: TrustedKeys) -> TrustedKeys:
        if content.by_id(key_id) is None:
            raise ConfigError("no trusted key has this id; see `echoplane keys list`.")
        return content.model_copy(update={"revoked": content.revoked | {key_id: reason}})

    _change(path, revoked)


def _change(path: Path, change: Callable[[TrustedKeys], TrustedKeys]) -> None:
    """Changes the file under a lock; readers see the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = read_trusted_keys(str(path)) if path.exists() else TrustedKeys(schema=1)
        changed = change(content)
        write_atomically(path, changed.model_dump_json(by_alias=True, indent=1).encode() + b"\n", mode=0o644)
