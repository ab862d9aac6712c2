"""Stage `evaluate`: runs the bundle on the test split's studies; writes scores.parquet, evaluation.json,
report.html, and a copy of the bundle's accuracy_model.json if it has one."""

import json
from pathlib import Path

from pydantic import Field

from echoplane import runtimes
from echoplane.bundle import read
from echoplane.bundle.spec import ACCURACY
from echoplane.dataset.catalogue import read_catalogue
from echoplane.evaluation.record import RECORD, EvaluationRecord
from echoplane.files import file_sha256
from echoplane.runtimes import DEFAULT_THREADS, InferenceSettings, Precision, RuntimeName
from echoplane.stages.outputs import Counts, Evaluation, Samples, StageResult
from echoplane.stages.progress import printed
from echoplane.stages.stage import BundleManifest, DatasetManifest, Manifest, StageConfig, StudiesManifest, run_stage


class Config(StageConfig):
    """Scores a bundle on the studies of patients that its training never saw."""

    studies: StudiesManifest
    """Manifest of the stage that made the studies, as given to the dataset stage; evaluation reads the files, as
    serving does."""
    samples: DatasetManifest
    """Manifest of the `dataset` stage."""
    bundle: BundleManifest
    """Manifest of the `export` stage."""
    runtime: RuntimeName = "openvino"
    """Runtime that will serve the bundle."""
    precision: Precision = "f32"
    """Precision that will serve the bundle."""
    threads: int = Field(DEFAULT_THREADS, ge=1)
    """Cores per study."""
    resamples: int = Field(2000, ge=100)
    """Bootstrap resamples of patients behind each interval."""
    seed: int = 0
    """Seed of the bootstrap."""


def run(config: Config) -> Manifest:
    """Makes the evaluation of `config`, or finds it finished."""
    return run_stage("evaluate", config, lambda folder: _work(config, folder))


def _work(config: Config, folder: Path) -> StageResult:
    # Matplotlib takes a second to import; a finished evaluation is found without it.
    import pyarrow.parquet as pq

    from echoplane.evaluation.evaluation import Conditions, check_test_set, evaluation
    from echoplane.evaluation.report import write_report
    from echoplane.evaluation.scores import score

    upstream = config.input("samples")
    samples, split_id = upstream.path, upstream.stated(Samples).split_id
    bundle = read(config.input("bundle").path)
    data_digest = file_sha256(samples / "catalogue.parquet")
    catalogue = read_catalogue(samples / "catalogue.parquet")
    test = check_test_set(catalogue, data_digest, split_id, bundle)
    settings = InferenceSettings(runtime=config.runtime, precision=config.precision, threads=config.threads)
    model = runtimes.open(bundle, settings)
    scores = score(test, config.input("studies").path, model, printed("evaluate"))
    found = evaluation(scores, catalogue, model, Conditions(config.resamples, config.seed))
    pq.write_table(scores, folder / "scores.parquet")
    record = EvaluationRecord.model_validate(found)
    (folder / RECORD).write_text(json.dumps(found, indent=1))
    write_report(found, folder)
    if ACCURACY in bundle.spec.files:  # the monitor finds it beside the reference
        (folder / ACCURACY).write_bytes(bundle.content(ACCURACY))
    details = record.details
    listed: Counts = {name: len(details[name]) for name in ("misclassified", "failures") if name in details}
    counts: Counts = {
        **headline(record),
        "patients": record.patients,
        "clips": record.clips,
        **listed,
        "latency_p50_ms": record.latency_ms.p50,
        "latency_p95_ms": record.latency_ms.p95,
    }
    return StageResult(counts=counts, output=Evaluation(bundle_id=bundle.id))


def headline(record: EvaluationRecord) -> dict[str, float]:
    """Returns the task's primary figure with its interval, and its other headline figures."""
    first, *others = (name for name in record.headline if name in record.figures)
    figure = record.figures[first]
    figures = {first: figure.value, f"{first}_low": figure.low, f"{first}_high": figure.high}
    return figures | {name: record.figures[name].value for name in others}


def read_record(evaluated: Manifest) -> EvaluationRecord:
    """Returns the record of a finished evaluation."""
    return EvaluationRecord.read(evaluated.path)
