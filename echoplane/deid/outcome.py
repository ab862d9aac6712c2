"""Results of de-identification: an outcome per file and a report per folder, neither of which identifies a patient.

`Outcome.source` is the path given by the caller, for joining labels to new instances. Paths often contain names, so it
is kept in memory only: no repr and no output of `to_json` contains it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from echoplane.deid.reasons import SENTENCES, WRITTEN


@dataclass(frozen=True)
class Outcome:
    """Result of one file."""

    source: Path = field(repr=False, compare=False)
    status: str
    """Status: written, quarantined or refused."""
    input_digest: str
    reason: str | None = None
    output: Path | None = None
    """Path relative to the output folder."""
    output_digest: str | None = None
    pseudonym: str | None = None
    new_sop_uid: str | None = None
    flags: tuple[str, ...] = ()
    folded_id: str | None = None
    """Keyed digest of the patient's id without case, spaces and punctuation."""
    actions: Mapping[str, int] = field(default_factory=dict)
    scan_blackened: float = 0.0
    """Share of the scan that was blackened as text, 0 to 1."""
    claims_clean_pixels: bool = False
    """True if the written header says BurnedInAnnotation NO."""

    @property
    def study(self) -> str | None:
        """New Study Instance UID of a written file."""
        return self.output.parent.name if self.output else None

    @property
    def sentence(self) -> str:
        """Outcome as a sentence for the reader."""
        return "De-identified and verified." if self.reason is None else SENTENCES[self.reason]

    def to_dict(self) -> dict[str, object]:
        """Returns the fields that may be written to disk."""
        return {
            "status": self.status,
            "reason": self.reason,
            "input_digest": self.input_digest,
            "output": self.output.as_posix() if self.output else None,
            "output_digest": self.output_digest,
            "pseudonym": self.pseudonym,
            "new_sop_uid": self.new_sop_uid,
            "flags": list(self.flags),
            "folded_id": self.folded_id,
            "scan_blackened": self.scan_blackened,
            "claims_clean_pixels": self.claims_clean_pixels,
        }


def flag_identities(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Returns the outcomes with a flag for studies of several patients, and for patients with similar ids.

    Only a person can decide whether these are one patient; otherwise one could be in both training and test data."""
    studies, alike = (_pseudonyms_by(outcomes, name) for name in ("study", "folded_id"))
    flagged = []
    for outcome in outcomes:
        raised = {
            "study-of-several-patients": len(studies.get(outcome.study, ())) > 1,
            "similar-patient-ids": len(alike.get(outcome.folded_id, ())) > 1,
        }
        flagged.append(replace(outcome, flags=outcome.flags + tuple(flag for flag, up in raised.items() if up)))
    return tuple(flagged)


def _pseudonyms_by(outcomes: Sequence[Outcome], name: str) -> dict[str | None, set[str | None]]:
    found: dict[str | None, set[str | None]] = {}
    for outcome in outcomes:
        if (group := getattr(outcome, name)) is not None:
            found.setdefault(group, set()).add(outcome.pseudonym)
    return found


@dataclass(frozen=True)
class Report:
    """Result of a folder."""

    outcomes: tuple[Outcome, ...]
    policy: Mapping[str, object]
    version: str

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of files by status."""
        found = Counter(outcome.status for outcome in self.outcomes)
        return {status: found[status] for status in (WRITTEN, "quarantined", "refused")}

    @cached_property
    def claims(self) -> dict[str, int]:
        """Number of written files whose header claims that no text is burned in, and of those that do not claim it."""
        claims = [outcome.claims_clean_pixels for outcome in self.outcomes if outcome.status == WRITTEN]
        return {"claimed": sum(claims), "not claimed": len(claims) - sum(claims)}

    @cached_property
    def flags(self) -> dict[str, int]:
        """Number of written files by flag, the most frequent first."""
        return dict(Counter(flag for outcome in self.outcomes for flag in outcome.flags).most_common())

    @cached_property
    def reasons(self) -> dict[str, int]:
        """Number of files that were not written, by reason code."""
        return dict(Counter(outcome.reason for outcome in self.outcomes if outcome.reason).most_common())

    @cached_property
    def actions(self) -> dict[str, dict[str, int]]:
        """Counts of actions over all written files: attribute keyword -> action -> count."""
        total: dict[str, Counter[str]] = {}
        for outcome in self.outcomes:
            for name, count in outcome.actions.items():
                keyword, action = name.rsplit(" ", 1)
                total.setdefault(keyword, Counter())[action] += count
        return {keyword: dict(total[keyword]) for keyword in sorted(total)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all outcomes, in an order that does not depend on file names."""
        return hashlib.sha256(_canonical(self._content())).hexdigest()

    def _content(self) -> dict[str, object]:
        listed = sorted((outcome.to_dict() for outcome in self.outcomes), key=_canonical)
        return {"schema": 1, "version": self.version, "policy": dict(self.policy), "outcomes": listed}

    def to_json(self) -> str:
        """Returns the report without identities: counts, reasons, actions, keyed digests."""
        summary = {
            "digest": self.digest,
            "counts": self.counts,
            "clean_pixels": self.claims,
            "reasons": self.reasons,
            "actions": self.actions,
        }
        return json.dumps(summary | self._content(), indent=1)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
