"""The evidence pack of a release: a zip whose manifest lists the digest of every file, signed if there is a key.

`verify_pack` needs only the zip and the trusted public keys, not the registry.
"""

import base64
import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import EvidenceError
from echoplane.evidence.release import Release
from echoplane.files import digest_of, write_atomically
from echoplane.signing import SigningKey, TrustedKeys

MANIFEST, SIGNATURE = "manifest.json", "signature.json"
CONTEXT = b"echoplane evidence pack, schema 1\n"
MAX_BYTES = 1 << 30
"""Maximum size of all files of a pack together."""
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""Time of every member, so that the same evidence gives the same bytes."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Manifest(BaseModel):
    """Content of a pack."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version_of_schema: Literal[1] = Field(1, alias="schema")
    task: str
    version: str
    bundle_id: str
    made: datetime
    files: dict[str, str]
    """SHA-256 by name."""


def make_pack(path: Path, release: Release, attached: Mapping[str, bytes], key: SigningKey | None) -> Manifest:
    """Writes the pack of `release` to `path`, with `attached` files beside its own, and returns its manifest."""
    files = own_files(release) | dict(attached)
    manifest = Manifest(
        schema=1,
        task=release.task,
        version=release.version,
        bundle_id=release.bundle_id,
        made=datetime.now(UTC).replace(microsecond=0),
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    )
    stated = manifest.model_dump_json(by_alias=True, indent=1).encode()
    files[MANIFEST] = stated
    if key:
        signature = base64.b64encode(key.private.sign(CONTEXT + stated)).decode()
        files[SIGNATURE] = json.dumps({"key_id": key.id, "signature": signature}).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, FIXED_TIME), data, zipfile.ZIP_DEFLATED)
    write_atomically(path, content.getvalue())
    return manifest


def own_files(release: Release) -> dict[str, bytes]:
    """Returns the files that a release gives by itself."""
    history = "".join(f"{record.model_dump_json(by_alias=True)}\n" for record in release.history)
    return {
        "why.txt": release.text().encode(),
        "why.html": release.page().encode(),
        "release.json": release.model_dump_json(by_alias=True, indent=1).encode(),
        "evaluation.json": json.dumps(release.evaluation, indent=1).encode(),
        "decision.json": json.dumps(release.decision, indent=1).encode(),
        "history.jsonl": history.encode(),
        "subgroups.csv": _subgroups(release.evaluation),
        "requirements.csv": resources.files(__package__).joinpath("requirements.csv").read_bytes(),
    }


def _subgroups(evaluation: Mapping[str, Any]) -> bytes:
    """Returns one row per subgroup and figure, with its interval."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["column", "group", "patients", "samples", "figure", "value", "low", "high"])
    for column, groups in evaluation.get("subgroups", {}).items():
        for group, found in groups.items():
            for name, figure in found["figures"].items():
                size, values = (found["patients"], found["clips"]), (figure["value"], figure["low"], figure["high"])
                writer.writerow([_cell(column), _cell(group), *size, _cell(name), *(f"{v:.4f}" for v in values)])
    return table.getvalue().encode()


def _cell(text: str) -> str:
    """Returns text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def verify_pack(path: Path, trusted: TrustedKeys, *, allow_unsigned: bool = False) -> Manifest:
    """Returns the manifest of the pack at `path` if every file has its digest and a trusted key signed the manifest.

    Raises EvidenceError otherwise; an unsigned pack is accepted only with `allow_unsigned`.
    """
    files = _read(path)
    stated = files.pop(MANIFEST, b"")
    signature = files.pop(SIGNATURE, None)
    try:
        manifest = Manifest.model_validate_json(stated)
    except ValidationError:
        raise EvidenceError(
            "the pack has no manifest of schema 1; make it again with `echoplane evidence make`."
        ) from None
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if found != manifest.files:
        changed = sorted(name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name))
        raise EvidenceError(f"the pack was changed: {', '.join(changed[:5])} differ from its manifest.")
    _check_signature(stated, signature, trusted, allow_unsigned)
    _check_signed_statement(files, manifest)
    return manifest


def _read(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len({member.filename for member in members}) != len(members):
                raise EvidenceError("the pack has two files of one name.")
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise EvidenceError(f"the pack holds more than {MAX_BYTES >> 20} MiB.")
            return {member.filename: archive.read(member) for member in members}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise EvidenceError("the pack cannot be read: it is no zip, or it is damaged.") from None


def _check_signature(stated: bytes, signature: bytes | None, trusted: TrustedKeys, allow_unsigned: bool) -> None:
    if signature is None:
        if not allow_unsigned:
            raise EvidenceError("the pack is not signed; --allow-unsigned checks its digests alone.")
        return
    try:
        content = json.loads(signature)
        key_id, raw = str(content["key_id"]), base64.b64decode(content["signature"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise EvidenceError("the pack's signature cannot be read.") from None
    key = trusted.by_id(key_id)
    if key is None or key_id in trusted.revoked:
        raise EvidenceError("the pack was signed with a key that is not trusted here, or is revoked.")
    try:
        key.verifier().verify(raw, CONTEXT + stated)
    except InvalidSignature:
        raise EvidenceError("the pack's signature is wrong: its manifest was changed.") from None


def _check_signed_statement(files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Raises EvidenceError if decision or evaluation are not those of the signed promotion in the pack."""
    try:
        release = Release.model_validate_json(files["release.json"])
        statements = [json.loads(json.loads(signed)["statement"]) for signed in release.signed.values()]
        digests = {name: digest_of(json.loads(files[f"{name}.json"])) for name in ("decision", "evaluation")}
    except (KeyError, ValueError, TypeError):
        raise EvidenceError("the pack lacks the release, its decision or its evaluation.") from None
    for statement in statements:
        if statement["bundle_id"] != manifest.bundle_id or any(statement[n] != d for n, d in digests.items()):
            raise EvidenceError("decision or evaluation in the pack are not those of its signed promotion.")
