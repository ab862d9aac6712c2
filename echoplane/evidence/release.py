"""A release: everything that the registry knows about one registered version, as plain data, text and a page."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict

from echoplane.audit import Record
from echoplane.html import render

ABSENT = "not recorded"


class Release(BaseModel):
    """Why a version serves or served."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    task: str
    version: str
    bundle_id: str
    aliases: tuple[str, ...]
    """Aliases that the version has now."""
    champion: str | None
    """Number of the version that serves now."""
    signature: str
    """Result of verifying the signature here, or the reason why it was not verified."""
    decision: dict[str, Any]
    """The gate's decision, with its policy and the provenance of the bundle."""
    evaluation: dict[str, Any]
    """The content of evaluation.json."""
    history: tuple[Record, ...]
    """Promotions, approvals and rollbacks that concern the version, oldest first."""
    signed: dict[str, str]
    """Signed statement by alias."""
    run: str
    """Run of the registry with the evaluation."""

    @property
    def status(self) -> str:
        """Returns one sentence on whether the version serves."""
        if "champion" in self.aliases:
            return f"version {self.version} of {self.task} is live"
        if "challenger" in self.aliases:
            return f"version {self.version} of {self.task} is a challenger: it answers shadow traffic only"
        replaced = [each for each in self.history if each.details.get("replaced", {}).get("version") == self.version]
        if replaced:
            last = replaced[-1]
            how = "rolled back" if last.action == "rollback" else "replaced"
            return (
                f"version {self.version} of {self.task} is not live: {how} by version {last.details['version']} "
                f"on {_day(last.time)}"
            )
        return f"version {self.version} of {self.task} is not live and never was, as far as is recorded"

    def sections(self) -> dict[str, list[tuple[str, str]]]:
        """Returns what is known, by section, as pairs of name and value."""
        provenance = self.decision.get("provenance") or {}
        return {
            "Model": [
                ("bundle", self.bundle_id),
                ("aliases now", ", ".join(self.aliases) or "none"),
                ("live version now", self.champion or "none"),
                ("signature", self.signature),
            ],
            "Data": list(_data(provenance)),
            "Code and training": list(_training(provenance)),
            "Evaluation on unseen patients": list(self._figures()),
            "Gate": list(self._gate()),
            "Shadow evidence and approval": list(self._approval()),
            "Who and when": [(_when(each.time), _sentence(each)) for each in self.history] or [("history", ABSENT)],
        }

    def text(self) -> str:
        """Returns the answer for a terminal."""
        lines = [self.status]
        for title, pairs in self.sections().items():
            lines += ["", title, *(f"  {name:28}  {value}" for name, value in pairs)]
        return "\n".join(lines)

    def page(self) -> str:
        """Returns the answer as a page that needs no other file."""
        template = resources.files(__package__).joinpath("release.html").read_text()
        return render(template, release=self, sections=self.sections(), checks=self.decision.get("reasons", []))

    def _figures(self) -> Iterator[tuple[str, str]]:
        found = self.evaluation
        yield "patients, samples", f"{found.get('patients', '?')}, {found.get('clips', '?')}"
        runs_on = (str(found.get(name, "?")) for name in ("runtime", "precision", "threads"))
        yield "runtime, precision, threads", ", ".join(runs_on)
        for name in found.get("headline", []):
            if name in found.get("figures", {}):
                yield name, interval(found["figures"][name])
        groups = found.get("subgroups", {})
        yield "subgroups", ", ".join(f"{column} ({len(each)})" for column, each in groups.items()) or "none"
        yield "latency p95 (ms)", f"{found.get('latency_ms', {}).get('p95', float('nan')):.0f}"

    def _gate(self) -> Iterator[tuple[str, str]]:
        reasons = self.decision.get("reasons", [])
        failed = [each["sentence"] for each in reasons if not each["passed"]]
        yield "decision", "passed" if self.decision.get("passed") else "refused"
        yield "checks", f"{len(reasons)}, of which {len(failed)} failed"
        yield "compared with bundle", self.decision.get("champion") or "none: it was the first"
        yield from (("failed", sentence) for sentence in failed)

    def _approval(self) -> Iterator[tuple[str, str]]:
        policy = self.decision.get("policy", {})
        asked = (policy.get("shadow") or {}).items()
        yield "policy asks for shadow", ", ".join(f"{name} {value}" for name, value in asked) or "nothing"
        yield "policy asks for approval", str(policy.get("approval", "automatic"))
        for record in self.history:
            if record.action == "approval" and record.details.get("bundle") == self.bundle_id:
                shadow = record.details.get("shadow")
                counted = ", ".join(f"{value} {name}" for name, value in shadow.items()) if shadow else "none"
                yield "shadow evidence", counted
                yield "approved by", f"{record.by}: {record.details.get('reason') or 'no reason given'}"


def interval(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} (95% interval {figure['low']:.3f} to {figure['high']:.3f})"


def _data(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    dataset = provenance.get("dataset") or {}
    yield "data digest", provenance.get("data_digest") or ABSENT
    yield "split", provenance.get("split_id") or ABSENT
    yield "patients by split", _counts(dataset.get("patients"))
    yield "samples by split", _counts(dataset.get("samples"))
    yield "de-identification", ", ".join(dataset.get("deidentification", [])) or ABSENT
    yield "sites", ", ".join(dataset.get("sites", [])) or ABSENT
    yield "manufacturers", ", ".join(dataset.get("manufacturers", [])) or ABSENT


def _training(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    code, training = provenance.get("code") or {}, provenance.get("training") or {}
    yield "echoplane", f"{code.get('version', '?')}, package source {code.get('package_digest', ABSENT)}"
    yield "run", provenance.get("run") or ABSENT
    yield "training steps", str(training.get("steps") or ABSENT)
    yield "training settings", str(training.get("training") or ABSENT)
    yield "last figures of training", str(training.get("last") or ABSENT)


def _counts(counts: Mapping[str, int] | None) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) if counts else ABSENT


def _sentence(record: Record) -> str:
    details = record.details
    text = f"{record.action} of version {details.get('version')} by {record.by}"
    if replaced := details.get("replaced"):
        text += f", in place of version {replaced['version']}"
    if reason := details.get("reason"):
        text += f": {reason}"
    return text


def _when(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"
