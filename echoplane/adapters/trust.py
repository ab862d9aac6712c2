"""Trust in a registered version: its signed promotion is checked before its bundle is loaded, its evidence after
the download.

Aliases and tags can be changed by whoever reaches the registry; a statement signed by `promote`, `echoplane approve` or
`echoplane rollback` can not.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from echoplane.adapters.registry import BUNDLE_TAG, EVALUATION_FOLDER, RUN_TAG, Registry, Version
from echoplane.errors import UntrustedModel
from echoplane.files import digest_of
from echoplane.settings import read_trust_settings
from echoplane.signing import Alias, SequenceMemory, Statement, TrustedKeys, read_trusted_keys, verify

log = logging.getLogger("echoplane.trust")

SIGNED_TAGS = frozenset(
    {
        BUNDLE_TAG,
        RUN_TAG,
        "split_id",
        "data_digest",
        "code_version",
        "runtime",
        "device",
        "precision",
        "threads",
        "patients",
        "clips",
        "latency_p95_ms",
    }
)
SIGNED_PREFIX = "figure."


def signature_tag(alias: Alias) -> str:
    return f"signature.{alias}"


def decision_path(digest: str) -> str:
    """Returns the path, among a run's artifacts, of the decision with this digest."""
    return f"decisions/{digest[:16]}.json"


def evidence_digest(tags: Mapping[str, str]) -> str:
    """Returns the digest of the tags that a service follows or shows: bundle, run, figures, inference settings."""
    return digest_of({k: v for k, v in tags.items() if k in SIGNED_TAGS or k.startswith(SIGNED_PREFIX)})


@dataclass(frozen=True)
class ModelTrust:
    """Decides whether a registered version may be loaded. Everything that is not signed by a trusted key is refused,
    unless `allow_unsigned`."""

    trusted: Callable[[], TrustedKeys]
    allow_unsigned: bool = False
    memory: SequenceMemory = field(default_factory=SequenceMemory)

    @classmethod
    def configured(cls, trusted_keys: str, allow_unsigned: bool, memory: Path | None = None) -> "ModelTrust":
        """Returns the trust that settings ask for; the file of keys is read again at each check."""
        return cls(lambda: read_trusted_keys(trusted_keys), allow_unsigned, SequenceMemory(memory))

    @classmethod
    def from_environment(cls, memory: Path | None = None) -> "ModelTrust":
        """Returns the trust that the environment asks for (ECHOPLANE_TRUSTED_KEYS, ECHOPLANE_ALLOW_UNSIGNED_MODELS)."""
        settings = read_trust_settings()
        return cls.configured(settings.trusted_keys, settings.allow_unsigned_models, memory)

    def check(self, version: Version, alias: Alias, *, newest: bool = True) -> Statement | None:
        """Returns the verified statement on `version`; None if unsigned versions are allowed and it has none that is
        valid. With `newest` an older statement than the last accepted one is refused.

        Raises UntrustedModel if the version may not be loaded.
        """
        try:
            return self.verified(version, alias, newest=newest)
        except UntrustedModel as error:
            if not self.allow_unsigned:
                raise UntrustedModel(f"version {version.number} of {version.name} is refused: {error}") from None
            log.warning("version %s of %s is loaded unsigned: %s", version.number, version.name, error)
            return None

    def verified(self, version: Version, alias: Alias, *, newest: bool) -> Statement:
        """Returns the verified statement on `version`. Raises UntrustedModel if it has none."""
        signed = version.tags.get(signature_tag(alias))
        if signed is None:
            raise UntrustedModel(
                f"nobody signed that it may be {alias}. Promote it with a signing key (`echoplane keys make`), or set "
                "ECHOPLANE_ALLOW_UNSIGNED_MODELS=true."
            )
        statement = verify(signed, self.trusted(), task=version.name, alias=alias, bundle_id=version.bundle_id)
        if statement.evidence != evidence_digest(version.tags):
            raise UntrustedModel("its figures or inference settings in the registry are not those that were signed.")
        if newest:
            self.memory.check(statement)
        return statement

    def check_evidence(self, registry: Registry, version: Version, statement: Statement | None) -> None:
        """Raises UntrustedModel if evaluation or decision in the registry are not those that were signed."""
        if statement is None:
            return
        for name, path, due in (
            ("evaluation", f"{EVALUATION_FOLDER}/evaluation.json", statement.evaluation),
            ("decision", decision_path(statement.decision), statement.decision),
        ):
            if digest_of(stored_json(registry, version.tags.get(RUN_TAG, ""), path)) != due:
                raise UntrustedModel(
                    f"version {version.number} of {version.name} is refused: its {name} in the registry is not the one "
                    "that was signed."
                )

    def accepted(self, statement: Statement | None) -> None:
        """Remembers a statement whose bundle was loaded, so that an older one is refused from now on."""
        if statement is not None:
            self.memory.accept(statement)


def stored_json(registry: Registry, run: str, path: str) -> Any:
    """Returns the JSON artifact at `path` of a run. Raises UntrustedModel if it is no JSON."""
    with tempfile.TemporaryDirectory() as folder:
        file = registry.download_artifact(run, path, Path(folder))
        try:
            return json.loads(file.read_bytes())
        except (ValueError, OSError):
            raise UntrustedModel(f"{path.rpartition('/')[2]} in the registry cannot be read.") from None
