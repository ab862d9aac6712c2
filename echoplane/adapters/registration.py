"""Writes to the registry: a run with the evaluation, a version with the bundle, a decision, aliases.

Every call may be repeated: a bundle is registered once, an evaluation recorded once, a decision applied once.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from echoplane.adapters.promotions import Authority, Evidence, is_signed, write_record, write_signature
from echoplane.adapters.registry import (
    BUNDLE_TAG,
    CHALLENGER,
    CHAMPION,
    EVALUATION_FOLDER,
    PREVIOUS,
    RUN_TAG,
    Registry,
    Version,
    answering,
)
from echoplane.adapters.trust import decision_path
from echoplane.bundle import Bundle
from echoplane.evaluation.record import EvaluationRecord
from echoplane.files import digest_of
from echoplane.promotion import Policy, StoredDecision
from echoplane.runtimes import InferenceSettings
from echoplane.signing import Alias

EXPERIMENT = "echoplane"
EVALUATION_TAG, DECIDED_TAG = "evaluation", "decided"
OUTCOME_TAG, PASSED = "decision", "passed"
PYFUNC = "echoplane.adapters.pyfunc"
NEEDED = ("numpy", "openvino", "onnxruntime", "opencv-python-headless", "pydantic", "pydicom", "simplejpeg")
"""Packages that the pyfunc imports besides echoplane itself, which is on no package index."""


def register(registry: Registry, bundle: Bundle, evaluation: Path, digest: str) -> Version:
    """Returns the version that holds `bundle`, and records the evaluation in folder `evaluation`, whose digest is
    `digest`.

    The version is created unless it is registered already, as a pyfunc by module name, without pickle. The returned
    tags are those that it would have with this evaluation. MLflow keeps the tags of an existing version until
    `apply_decision`, since serving follows them.
    """
    version, recorded = registry.version_of(bundle.spec.task, bundle.id), _tag_of(EVALUATION_TAG, digest)
    record = EvaluationRecord.read(evaluation)
    tags = _tags(bundle, record) | {BUNDLE_TAG: bundle.id}
    if version and recorded in version.tags:
        return replace(version, tags={**version.tags, **tags, RUN_TAG: version.tags[recorded]})
    with answering(), _run(registry, bundle) as run_id:
        _log_evaluation(registry, run_id, bundle, evaluation, record)
        tags |= {RUN_TAG: run_id, recorded: run_id}
        if version is None:
            return Version(bundle.spec.task, _create(registry, bundle, tags), bundle.id, tags)
        _tag(registry, version, {recorded: run_id})
        return replace(version, tags={**version.tags, **tags})


def baseline(registry: Registry, version: Version) -> Version | None:
    """Returns the version that `version` must match: the champion or, if `version` is the champion, the one before
    it."""
    champion = registry.champion(version.name)
    if champion and champion.number == version.number:
        return registry.by_alias(version.name, PREVIOUS)
    return champion


def apply_decision(
    registry: Registry,
    version: Version,
    baseline: Version | None,
    decision: Mapping[str, Any],
    digest: str,
    figures: Mapping[str, Any],
    who: Authority,
) -> None:
    """Records the decision in MLflow (artifact, tags) and, if it passed, signs it and moves the aliases: previous, then
    champion; or challenger, if the policy asks for shadow evidence or approval.

    A decision with this `digest` is applied only once, so an alias that a person has moved since, in a rollback, is not
    moved again; a champion without a signature of this key is signed then. A version that was accepted before keeps its
    figures and inference settings if it is refused later.
    """
    stored, decided = registry.by_number(version.name, version.number).tags, _tag_of(DECIDED_TAG, digest)
    evidence = Evidence(digest_of(decision), digest_of(figures))
    if decided in stored:
        _sign_again(registry, version.name, version.number, stored[decided], evidence, who)
        return
    stated, accepted = StoredDecision.parse(decision), stored.get(OUTCOME_TAG) == PASSED
    passed, failed = stated.passed, [check.name for check in stated.reasons if not check.passed]
    tags = {OUTCOME_TAG: PASSED if passed else "refused", "failed_checks": ", ".join(failed) or "none"}
    alias: Alias = CHALLENGER if waits_as_challenger(registry, version, stated.policy) else CHAMPION
    details = {"alias": alias, **vars(evidence), "failed_checks": failed}
    with answering():
        for path in ("decision.json", decision_path(evidence.decision)):
            registry.client.log_dict(version.tags[RUN_TAG], dict(decision), path)
        replaced = baseline if passed and alias == CHAMPION else None
        record = write_record(registry, who, "promotion" if passed else "refusal", version, details, replaced)
        if passed or not accepted:
            _tag(registry, version, {k: v for k, v in version.tags.items() if stored.get(k) != v} | tags)
        if passed:
            write_signature(registry, who, "promotion", alias, version, evidence, record)
            if baseline and alias == CHAMPION:
                registry.client.set_registered_model_alias(version.name, PREVIOUS, baseline.number)
            registry.client.set_registered_model_alias(version.name, alias, version.number)
        _tag(registry, version, {decided: tags[OUTCOME_TAG]})


def waits_as_challenger(registry: Registry, version: Version, policy: Policy) -> bool:
    """Returns True if a version that passes becomes challenger, because the policy asks for shadow evidence or
    approval. The champion itself, which a new evaluation confirms, stays champion."""
    champion = registry.champion(version.name)
    return policy.waits and (champion is None or champion.number != version.number)


def _sign_again(registry: Registry, task: str, number: str, outcome: str, evidence: Evidence, who: Authority) -> None:
    """Signs the champion if this decision made it one while there was no signing key, or another one."""
    champion = registry.champion(task)
    if who.key is None or outcome != PASSED or champion is None or champion.number != number:
        return
    if not is_signed(champion, CHAMPION, who.key):
        with answering():
            record = write_record(registry, who, "promotion", champion, vars(evidence) | {"signed_again": True}, None)
            write_signature(registry, who, "promotion", CHAMPION, champion, evidence, record)


def _tag_of(kind: str, digest: str) -> str:
    """Returns the tag by which a version records one of several evaluations or decisions."""
    return f"{kind}.{digest[:16]}"


@contextmanager
def _run(registry: Registry, bundle: Bundle) -> Iterator[str]:
    """Yields the run that the environment names (MLFLOW_RUN_ID), which is left running for its owner, or a new run."""
    import mlflow

    if joined := os.environ.get("MLFLOW_RUN_ID"):
        with mlflow.start_run(run_id=joined):
            yield joined
        registry.client.update_run(joined, status="RUNNING")
        return
    named = {"MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"} & set(os.environ)
    experiment_id = None if named else _experiment(registry)
    with mlflow.start_run(experiment_id=experiment_id, run_name=f"{bundle.spec.task} {bundle.id[:8]}") as run:
        yield run.info.run_id


def _experiment(registry: Registry) -> str:
    found = registry.client.get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id if found else registry.client.create_experiment(EXPERIMENT))


def _log_evaluation(
    registry: Registry, run_id: str, bundle: Bundle, evaluation: Path, record: EvaluationRecord
) -> None:
    import mlflow

    spec = bundle.spec
    mlflow.log_params(
        {"task": spec.task}
        | {f"threshold.{name}": value for name, value in spec.thresholds.items()}
        | {f"network.{name}": value for name, value in spec.network.items()}
        | {f"preprocessing.{name}": value for name, value in spec.preprocessing.items()}
        | {name: getattr(record, name) for name in InferenceSettings.model_fields}
    )
    mlflow.log_metrics(_metrics(record))
    registry.client.log_artifacts(run_id, str(evaluation), EVALUATION_FOLDER)


def _create(registry: Registry, bundle: Bundle, tags: Mapping[str, str]) -> str:
    """Creates a new version of the task's model and returns its number. It has its tags from the start: without them it
    could not be found again after an interruption, and the bundle would be registered twice."""
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as temporary:
        # MLflow names the data after their folder: always "bundle", whatever the stage called it.
        link = Path(temporary) / "bundle"
        link.symlink_to(bundle.folder.resolve(), target_is_directory=True)
        logged = mlflow.pyfunc.log_model(
            name="bundle",
            loader_module=PYFUNC,
            data_path=str(link),
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in NEEDED],
        )
    try:
        registry.client.create_registered_model(bundle.spec.task)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = registry.client.create_model_version(
        bundle.spec.task, logged.model_uri, tags[RUN_TAG], tags=dict(tags), model_id=logged.model_id
    )
    return str(version.version)


def _metrics(record: EvaluationRecord) -> dict[str, float]:
    """Returns every figure and its interval, and patients, samples and latency; MLflow allows `/` in a name."""
    metrics = {"patients": float(record.patients), "clips": float(record.clips)}
    for name, figure in record.figures.items():
        metrics |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return metrics | {f"latency_ms_{name}": value for name, value in record.latency_ms.model_dump().items()}


def _tags(bundle: Bundle, record: EvaluationRecord) -> dict[str, str]:
    spec = bundle.spec
    tags = {"split_id": spec.split_id, "data_digest": spec.data_digest, "code_version": spec.code.version}
    tags |= {name: str(getattr(record, name)) for name in (*InferenceSettings.model_fields, "patients", "clips")}
    for name, figure in record.figures.items():
        if "/" not in name or name in record.headline:
            # Prefixed: `precision` alone is the arithmetic's, which serving follows.
            tags |= {f"figure.{name}": f"{figure.value:.4f}", f"figure.{name}_low": f"{figure.low:.4f}"}
    return tags | {"latency_p95_ms": f"{record.latency_ms.p95:.1f}"}


def _tag(registry: Registry, version: Version, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        registry.client.set_model_version_tag(version.name, version.number, key, value)
