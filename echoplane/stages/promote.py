"""Stage `promote`: registers the bundle in MLflow, runs the promotion gate, writes decision.json and moves the aliases
if it passed.

The state of MLflow is outside the stage's folder, so it is checked on every run: a registry that lacks the bundle gets
it again. Only the decision itself is stored like the result of any stage; the model that it was compared with joins its
cache key.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, ClassVar

from echoplane.bundle import read
from echoplane.errors import ConfigError
from echoplane.evaluation.record import RECORD, EvaluationRecord
from echoplane.files import digest_of
from echoplane.parent import end_with_parent
from echoplane.promotion import Champion, Policy, StoredDecision, decide, read_policy
from echoplane.retry import retry_while_unavailable
from echoplane.stages.outputs import Evaluation, Promotion, StageResult
from echoplane.stages.progress import printed
from echoplane.stages.provenance import provenance
from echoplane.stages.stage import BundleManifest, From, Manifest, StageConfig, run_stage


class Config(StageConfig):
    """Registers an evaluated bundle and makes it the champion if it passes the gate."""

    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root", "tracking_uri", "policy"})

    bundle: BundleManifest
    """Manifest of the `export` stage."""
    evaluation: Annotated[str, From(("evaluate",))]
    """Manifest of the `evaluate` stage."""
    tracking_uri: str = ""
    """Address of the MLflow server. If omitted, the variable MLFLOW_TRACKING_URI."""
    policy: str = "default"
    """Path of a YAML policy, or "default" for the task's own policy in echoplane."""


def run(config: Config) -> Manifest:
    """Decides on a bundle and applies the decision in MLflow; a refusal is a decision too.

    Waits some minutes for a registry or object store that is unavailable: everything may be repeated.
    """
    end_with_parent()
    return retry_while_unavailable(lambda: _promoted(config))


def _promoted(config: Config) -> Manifest:
    from echoplane.adapters.promotions import Authority
    from echoplane.adapters.registration import apply_decision, register
    from echoplane.adapters.registry import Registry

    progress = printed("promote")
    bundle = read(config.input("bundle").path)
    policy = read_policy(bundle.spec.task, config.policy)
    evaluated = config.input("evaluation")
    if not evaluated.intact():
        raise ConfigError("the evaluation's files are not as `evaluate` left them. Run that stage again.")
    of_bundle = evaluated.stated(Evaluation).bundle_id
    if of_bundle != bundle.id:
        raise ConfigError(f"the evaluation is of bundle {of_bundle[:12]}, not of {bundle.id[:12]}.")
    registry = Registry(config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", ""))
    version = register(registry, bundle, evaluated.path, evaluated.digest)
    progress(1, 3)
    made_from = provenance(Path(config.root), bundle.spec)
    manifest, against = _measured(config, registry, version, evaluated.path, policy, made_from)
    progress(2, 3)
    decision = json.loads((manifest.path / "decision.json").read_text())
    figures = json.loads((evaluated.path / RECORD).read_text())
    apply_decision(registry, version, against, decision, manifest.digest, figures, Authority.configured())
    progress(3, 3)
    return manifest


def _measured(
    config: Config, registry: Any, version: Any, evaluated: Path, policy: Policy, made_from: dict[str, Any]
) -> tuple[Manifest, Any | None]:
    """Returns the decision on `version`, and the baseline that it was compared with, as it is when the decision is
    made."""
    from echoplane.adapters.registration import baseline, waits_as_challenger

    against = baseline(registry, version)
    waits = waits_as_challenger(registry, version, policy)
    key = digest_of([policy.model_dump(), against.bundle_id if against else None, *([waits] if policy.waits else [])])
    manifest = run_stage(
        "promote",
        config,
        lambda folder: _work(folder, evaluated, policy, _champion(registry, against), made_from, waits=waits),
        extra_cache_key=key,
    )
    standing = baseline(registry, version)
    if (standing and standing.number) == (against and against.number):
        return manifest, against
    return _measured(config, registry, version, evaluated, policy, made_from)


def _work(
    folder: Path,
    evaluated: Path,
    policy: Policy,
    champion: Champion | None,
    made_from: dict[str, Any],
    *,
    waits: bool,
) -> StageResult:
    from echoplane.evaluation.scores import as_rows, read_scores

    record = EvaluationRecord.read(evaluated)
    decision = decide(record, as_rows(read_scores(evaluated / "scores.parquet")), policy, champion)
    stated = StoredDecision(
        passed=decision.passed,
        reasons=decision.reasons,
        bundle_id=record.bundle_id,
        task=record.task,
        champion=champion.bundle_id if champion else None,
        policy=policy,
        figures=record.figures,
        provenance=made_from,
    )
    (folder / "decision.json").write_text(json.dumps(stated.as_data(), indent=1))
    (folder / "decision.md").write_text(decision.as_markdown())
    refused_by = [check.sentence for check in decision.reasons if not check.passed]
    return StageResult(
        counts={
            "passed": decision.passed,
            "checks": len(decision.reasons),
            "refused_by": refused_by,
            "champion": champion.bundle_id if champion else None,
        },
        output=Promotion(passed=decision.passed, refused_by=tuple(refused_by), waits=decision.passed and waits),
    )


def _champion(registry: Any, version: Any) -> Champion | None:
    """Returns the baseline with its scores, from the registry."""
    from echoplane.evaluation.scores import as_rows, read_scores

    if version is None:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        scores = as_rows(read_scores(registry.download_scores(version, Path(temporary))))
    return Champion(version.number, version.bundle_id, version.tags["split_id"], scores)
