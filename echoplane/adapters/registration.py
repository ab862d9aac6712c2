"""Writing to the registry: a run with the evaluation, a version with the bundle, a decision, aliases.

Everything may be repeated: a bundle is registered once, an evaluation recorded once, a decision carried out once.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from echoplane.adapters.registry import (
    BUNDLE_TAG,
    CHAMPION,
    EVALUATION_FOLDER,
    PREVIOUS,
    RUN_TAG,
    Registry,
    Version,
    answering,
)
from echoplane.bundle import Bundle
from echoplane.runtimes import InferenceSettings

EXPERIMENT = "echoplane"
EVALUATION_TAG, DECIDED_TAG = "evaluation", "decided"
OUTCOME_TAG, PASSED = "decision", "passed"
PYFUNC = "echoplane.adapters.pyfunc"
NEEDED = ("numpy", "openvino", "onnxruntime", "opencv-python-headless", "pydantic", "pydicom", "simplejpeg")
"""What the pyfunc imports beside echoplane itself, which is on no package index."""


def register(registry: Registry, bundle: Bundle, evaluation: Path, digest: str) -> Version:
    """The version that holds `bundle`, with the evaluation in folder `evaluation` recorded; `digest` is the folder's.

    Found where it is registered, else made: a pyfunc by module name, without pickle. Its tags are those that it would
    have with this evaluation. MLflow keeps those that a version has until `apply_decision`: serving follows them.
    """
    version, recorded = registry.version_of(bundle.spec.task, bundle.id), _tag_of(EVALUATION_TAG, digest)
    figures = json.loads((evaluation / "evaluation.json").read_text())
    tags = _tags(bundle, figures) | {BUNDLE_TAG: bundle.id}
    if version and recorded in version.tags:
        return replace(version, tags={**version.tags, **tags, RUN_TAG: version.tags[recorded]})
    with answering(), _run(registry, bundle) as run_id:
        _log_evaluation(registry, run_id, bundle, evaluation, figures)
        tags |= {RUN_TAG: run_id, recorded: run_id}
        if version is None:
            return Version(bundle.spec.task, _create(registry, bundle, tags), bundle.id, tags)
        _tag(registry, version, {recorded: run_id})
        return replace(version, tags={**version.tags, **tags})


def baseline(registry: Registry, version: Version) -> Version | None:
    """Whom `version` has to match: the champion, or, where `version` is that itself, the one it followed."""
    champion = registry.champion(version.name)
    if champion and champion.number == version.number:
        return registry.by_alias(version.name, PREVIOUS)
    return champion


def apply_decision(
    registry: Registry, version: Version, baseline: Version | None, decision: Mapping[str, Any], digest: str
) -> None:
    """Tell MLflow the decision (artifact, tags) and, where it passed, move the aliases: previous, then champion.

    Done once for a decision of that `digest`: an alias that a person moved since, in a rollback, stays where it is.
    What was accepted once keeps its figures, and how it is served, through a later refusal.
    """
    stored, decided = registry.by_number(version.name, version.number).tags, _tag_of(DECIDED_TAG, digest)
    if decided in stored:
        return
    passed, accepted = decision["passed"], stored.get(OUTCOME_TAG) == PASSED
    failed = [reason["name"] for reason in decision["reasons"] if not reason["passed"]]
    tags = {OUTCOME_TAG: PASSED if passed else "refused", "failed_checks": ", ".join(failed) or "none"}
    with answering():
        registry.client.log_dict(version.tags[RUN_TAG], dict(decision), "decision.json")
        if passed or not accepted:
            _tag(registry, version, {k: v for k, v in version.tags.items() if stored.get(k) != v} | tags)
        if passed:
            if baseline:
                registry.client.set_registered_model_alias(version.name, PREVIOUS, baseline.number)
            registry.client.set_registered_model_alias(version.name, CHAMPION, version.number)
        _tag(registry, version, {decided: tags[OUTCOME_TAG]})


def _tag_of(kind: str, digest: str) -> str:
    """The tag by which a version remembers one evaluation, or one decision, of several."""
    return f"{kind}.{digest[:16]}"


@contextmanager
def _run(registry: Registry, bundle: Bundle) -> Iterator[str]:
    """The run that the environment names (MLFLOW_RUN_ID), left running for whoever started it, or one of our own."""
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
    registry: Registry, run_id: str, bundle: Bundle, evaluation: Path, figures: Mapping[str, Any]
) -> None:
    import mlflow

    spec = bundle.spec
    mlflow.log_params(
        {"task": spec.task}
        | {f"threshold.{name}": value for name, value in spec.thresholds.items()}
        | {f"network.{name}": value for name, value in spec.network.items()}
        | {f"preprocessing.{name}": value for name, value in spec.preprocessing.items()}
        | {name: figures[name] for name in InferenceSettings.model_fields}
    )
    mlflow.log_metrics(_metrics(figures))
    registry.client.log_artifacts(run_id, str(evaluation), EVALUATION_FOLDER)


def _create(registry: Registry, bundle: Bundle, tags: Mapping[str, str]) -> str:
    """A new version of the task's model, its number. It has its tags from the start: one without could not be found
    again after an interruption, and the bundle would be registered twice."""
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


def _metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """Every figure and its interval, patients, clips and latency; MLflow allows `/` in a name."""
    metrics = {"patients": float(figures["patients"]), "clips": float(figures["clips"])}
    for name, figure in figures["figures"].items():
        metrics |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
    return metrics | {f"latency_ms_{name}": value for name, value in figures["latency_ms"].items()}


def _tags(bundle: Bundle, figures: Mapping[str, Any]) -> dict[str, str]:
    spec = bundle.spec
    tags = {"split_id": spec.split_id, "data_digest": spec.data_digest, "code_version": spec.code.version}
    tags |= {name: str(figures[name]) for name in (*InferenceSettings.model_fields, "patients", "clips")}
    for name, figure in figures["figures"].items():
        if "/" not in name or name in figures["headline"]:
            # Prefixed: `precision` alone is the arithmetic's, which serving follows.
            tags |= {f"figure.{name}": f"{figure['value']:.4f}", f"figure.{name}_low": f"{figure['low']:.4f}"}
    return tags | {"latency_p95_ms": f"{figures['latency_ms']['p95']:.1f}"}


def _tag(registry: Registry, version: Version, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        registry.client.set_model_version_tag(version.name, version.number, key, value)
