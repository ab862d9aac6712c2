"""The TUF repository of an installation: a folder with `metadata/` and `targets/`, which any web server can publish.

Role root and role targets are signed by a threshold of offline keys; targets lists the files of bundles. The delegated
role plan is signed by an online key and lists the plans of channels, so a roll-out is widened or halted without the
offline keys, and the online keys cannot introduce a bundle. Snapshot and timestamp share a second online key.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer
from tuf.repository import Repository

from echoplane.edge.keys import new_key
from echoplane.errors import ConfigError
from echoplane.files import write_atomically

PLAN = "plan"
PLAN_PATHS = "plans/*"
ROLES: dict[str, type[Root | Targets | Snapshot | Timestamp]] = {
    Root.type: Root,
    Targets.type: Targets,
    PLAN: Targets,
    Snapshot.type: Snapshot,
    Timestamp.type: Timestamp,
}
VALID_DAYS = {Root.type: 730, Targets.type: 365, PLAN: 90, Snapshot.type: 90, Timestamp.type: 14}
"""Days until a role's metadata expires. Devices that have no newer ones keep serving, and say so."""
KEYS, THRESHOLD = 3, 2
"""Number of keys of the roles root and targets, and how many must sign."""


class EdgeRepository(Repository):
    """The repository in `folder`, signed with those of `signers` that its roles name."""

    def __init__(self, folder: Path, signers: dict[str, CryptoSigner]) -> None:
        self.folder, self._signers = folder, dict(signers)
        self.now = datetime.now(UTC)

    def open(self, role: str) -> Metadata[Any]:
        path = self._newest(role)
        return Metadata.from_file(str(path)) if path else Metadata(ROLES[role]())

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Signs the next version of `role` and writes it. Raises ConfigError if too few of its keys are at hand."""
        first = self._newest(role) is None
        md.signed.version = 1 if first else md.signed.version + 1
        md.signed.expires = (self.now + timedelta(days=VALID_DAYS[role])).replace(microsecond=0)
        signers = self._signers_of(role, md)
        md.signatures.clear()
        for signer in signers:
            md.sign(signer, append=True)
        name = f"{role}.json" if role == Timestamp.type else f"{md.signed.version}.{role}.json"
        content = md.to_bytes(JSONSerializer(compact=True))
        write_atomically(self.folder / "metadata" / name, content)

    @property
    def targets_infos(self) -> dict[str, MetaFile]:
        return {f"{role}.json": MetaFile(self.targets(role).version) for role in (Targets.type, PLAN)}

    @property
    def snapshot_info(self) -> MetaFile:
        return MetaFile(self.snapshot().version)

    def add_target(self, targets: Targets, path: str, content: bytes) -> None:
        """Writes a file and lists it in `targets`."""
        info = TargetFile.from_data(path, content, ["sha256"])
        folder, _, name = path.rpartition("/")
        stored = self.folder / "targets" / folder / f"{info.hashes['sha256']}.{name}"
        if not stored.exists():
            write_atomically(stored, content)
        targets.targets[path] = info

    def target_content(self, path: str, role: str = Targets.type) -> bytes | None:
        """Returns the content of a listed file; None if it is not listed. Raises ConfigError if it was changed."""
        info = self.targets(role).targets.get(path)
        if info is None:
            return None
        folder, _, name = path.rpartition("/")
        content = (self.folder / "targets" / folder / f"{info.hashes['sha256']}.{name}").read_bytes()
        if hashlib.sha256(content).hexdigest() != info.hashes["sha256"]:
            raise ConfigError(f"{path} in the repository was changed; publish the bundle again from its folder.")
        return content

    def finish(self) -> None:
        """Makes what was changed visible to devices: snapshot, then timestamp."""
        self.do_snapshot()
        self.do_timestamp(force=True)

    def _signers_of(self, role: str, md: Metadata[Any]) -> list[CryptoSigner]:
        delegator = self.targets() if role == PLAN else md.signed if role == Root.type else self.root()
        wanted = delegator.get_delegated_role(role)
        signers = [self._signers[keyid] for keyid in wanted.keyids if keyid in self._signers]
        if role == Root.type:  # a rotation is valid only if the keys of the version before it sign too
            before = self.root().roles[role] if self._newest(role) else wanted
            old = [self._signers[keyid] for keyid in before.keyids if keyid in self._signers]
            _enough(role, len(old), before.threshold)
            signers += [signer for signer in old if signer not in signers]
        _enough(role, len(signers), wanted.threshold)
        return signers

    def _newest(self, role: str) -> Path | None:
        folder = self.folder / "metadata"
        if role == Timestamp.type:
            path = folder / "timestamp.json"
            return path if path.exists() else None
        versions = [int(path.name.split(".")[0]) for path in folder.glob(f"*.{role}.json")]
        return folder / f"{max(versions)}.{role}.json" if versions else None


def _enough(role: str, found: int, threshold: int) -> None:
    if found < threshold:
        raise ConfigError(
            f"role {role} needs {threshold} of its keys, and {found} were given; name their folders with --keys."
        )


def create(folder: Path, keys: Path) -> EdgeRepository:
    """Makes an empty repository in `folder` and its keys below `keys`. Raises ConfigError if there is one."""
    if (folder / "metadata").exists():
        raise ConfigError("the repository exists; `init` is for a new one.")
    signers = {role: _new_keys(keys, role) for role in (Root.type, Targets.type)}
    online = {role: new_key(keys / "online" / f"{role}.pem") for role in (PLAN, Timestamp.type)}
    every = [*signers[Root.type], *signers[Targets.type], *online.values()]
    repository = EdgeRepository(folder, {signer.public_key.keyid: signer for signer in every})
    md = Metadata(Root(consistent_snapshot=True))
    for role in (Root.type, Targets.type):
        for signer in signers[role]:
            md.signed.add_key(signer.public_key, role)
        md.signed.roles[role].threshold = THRESHOLD
    for role in (Snapshot.type, Timestamp.type):
        md.signed.add_key(online[Timestamp.type].public_key, role)
    repository.close(Root.type, md)
    with repository.edit_targets() as targets:
        delegated = DelegatedRole(PLAN, [], 1, terminating=True, paths=[PLAN_PATHS])
        targets.delegations = Delegations({}, {PLAN: delegated})
        targets.add_key(online[PLAN].public_key, PLAN)
    with repository.edit_targets(PLAN):
        pass
    repository.finish()
    return repository


def rotate_root(repository: EdgeRepository, keys: Path) -> None:
    """Replaces the keys of role root by new ones below `keys`; the old threshold signs too, so devices follow."""
    fresh = _new_keys(keys, Root.type)
    repository._signers.update({signer.public_key.keyid: signer for signer in fresh})
    with repository.edit_root() as root:
        for keyid in list(root.roles[Root.type].keyids):
            root.revoke_key(keyid, Root.type)
        for signer in fresh:
            root.add_key(signer.public_key, Root.type)
    repository.finish()


def _new_keys(keys: Path, role: str) -> list[CryptoSigner]:
    return [new_key(keys / f"{role}-{number}" / f"{role}-{number}.pem") for number in range(1, KEYS + 1)]
