"""Access tokens of the HTTP service: a file of salted hashes, and functions to make and verify tokens.

The file holds no token. A token's secret is 256 random bits, which cannot be guessed, so one SHA-256 is enough; a slow
password hash would only let strangers keep the service busy.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import ConfigError, wrong_field

Role = Literal["predict", "feedback", "operate"]
ROLES: tuple[Role, ...] = ("predict", "feedback", "operate")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
PREFIX = "echoplane"
OTHERS_MAY_WRITE = 0o022


class TokenEntry(BaseModel):
    """Entry of one token in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    name: str = Field(pattern=NAME)
    """Name of the system or role that uses the token, as the audit log shows it; never a patient."""
    site: str = Field(pattern=NAME)
    roles: tuple[Role, ...] = Field(min_length=1)
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    expires: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        return self.expires is None or now < self.expires


class TokenFile(BaseModel):
    """The content of a token file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = Field(1, alias="schema")
    tokens: tuple[TokenEntry, ...] = ()


NOBODY = TokenEntry(id="0" * 16, name="nobody", site="none", roles=("predict",), salt="0" * 32, sha256="0" * 64)
"""Entry compared with if an id is unknown, so that an unknown id takes as long as a wrong secret."""


def new_token(name: str, site: str, roles: tuple[Role, ...], expires: datetime | None = None) -> tuple[str, TokenEntry]:
    """Makes a token; returns it, which cannot be recovered later, and its entry."""
    token_id, secret, salt = secrets.token_hex(8), secrets.token_urlsafe(32), secrets.token_hex(16)
    try:
        entry = TokenEntry(
            id=token_id, name=name, site=site, roles=roles, salt=salt, sha256=_hash(salt, secret), expires=expires
        )
    except ValidationError as error:
        raise ConfigError(f"{wrong_field(error)} Names have up to 64 letters, digits, dots and dashes.") from None
    return f"{PREFIX}_{token_id}_{secret}", entry


def find_token(token: str, entries: dict[str, TokenEntry]) -> TokenEntry | None:
    """Returns the valid entry of `token`, or None; secrets are compared in constant time."""
    prefix, _, rest = token.partition("_")
    token_id, _, secret = rest.partition("_")
    entry = entries.get(token_id, NOBODY)
    same = hmac.compare_digest(_hash(entry.salt, secret), entry.sha256)
    known = prefix == PREFIX and entry is not NOBODY
    return entry if same and known and entry.is_valid(datetime.now(UTC)) else None


def find_bearer(authorization: str, path: Path) -> TokenEntry | None:
    """Returns the valid entry, in the token file at `path`, of the token in an Authorization header, or None. Raises
    ConfigError if the file cannot be used."""
    scheme, _, token = authorization.partition(" ")
    return find_token(token, read_tokens(path)) if scheme.lower() == "bearer" else None


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()


def read_tokens(path: Path) -> dict[str, TokenEntry]:
    """Reads the entries by id. Raises ConfigError if the file is not a token file, or if others may write it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS_MAY_WRITE:
                raise ConfigError("others than the owner may write the token file; chmod 600 it.")
            content = TokenFile.model_validate_json(file.read())
    except OSError as error:
        raise ConfigError(f"the token file cannot be read ({os.strerror(error.errno or 0)}).") from None
    except ValidationError as error:
        raise ConfigError(f"the token file is not one that `echoplane token` writes: {wrong_field(error)}") from None
    return {entry.id: entry for entry in content.tokens}


def change_tokens(path: Path, *, add: TokenEntry | None = None, remove: str | None = None) -> int:
    """Adds an entry, or removes those of a name; returns how many were removed. Readers see the old file or the new
    one."""
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = list(read_tokens(path).values()) if path.exists() else []
        kept = [entry for entry in entries if entry.name != remove]
        content = TokenFile(schema=1, tokens=(*kept, *([add] if add else ())))
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".tokens-", delete=False) as file:
            file.write(content.model_dump_json(by_alias=True, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)  # noqa: PTH105  the temporary file is known by name
    return len(entries) - len(kept)
