"""Stage `dataset`: turns de-identified or public studies into catalogue, split and shards.

The folder holds `catalogue.parquet`, `clips-NNNN.npy`, `index.parquet` and `dataset.json` (task, preprocessing, split
rule, split_id, data_digest).
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from echoplane.bundle import read
from echoplane.dataset.catalogue import PUBLIC, Source, build_catalogue, write_catalogue
from echoplane.dataset.description import Description
from echoplane.dataset.shards import write_shards
from echoplane.dataset.split import SPLITS, Split, SplitRule
from echoplane.errors import ConfigError, StageError, wrong_field
from echoplane.stages.outputs import Samples, StageResult, Studies
from echoplane.stages.progress import printed
from echoplane.stages.stage import Manifest, StageConfig, StudiesManifest, run_stage
from echoplane.stages.start import Start
from echoplane.tasks import by_name

SYNTHETIC = "synthetic patients of echoplane"
SHOWN = {"label": "a label", "masks": "masks", "value": "a value"}
"""Ground truth that a study must have, in words, by its kind."""


class Config(StageConfig):
    """Catalogues de-identified studies, splits them by patient and prepares samples."""

    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root", "workers", "start"})

    studies: StudiesManifest
    """Manifest of the stage that made the studies: `deid`, or `phantom` for synthetic cine MR."""
    task: str = "echo-view-video"
    """Task that the labels or masks are for."""
    preprocessing: dict[str, Any] = {}
    """Settings of the task's preprocessing that differ from its defaults; they travel in the bundle."""
    start: Start | None = None
    """Bundle that training will start from: its preprocessing is taken instead."""
    split: SplitRule = SplitRule()
    """Rule that assigns patients to training, validation and test."""
    public: Annotated[str, StringConstraints(strip_whitespace=True)] = ""
    """Publisher of studies that were published without patient identity, such as "Sunnybrook cine MR, CC0"; they need
    no de-identification. If omitted, the report of `deid` must lie beside the studies."""
    site: str = "local"
    """Origin of the studies, as subgroup tables name it; never read from a file."""
    max_studies: int = Field(default=50, ge=1)
    """Maximum plausible number of studies of one patient; a pseudonym with more is refused."""
    workers: int = Field(default=2, ge=1)
    """Processes that decode. The result does not depend on it."""


def run(config: Config) -> Manifest:
    """Makes the dataset of `config`, or finds it finished."""
    preprocessing = _preprocessing(config)
    taken = preprocessing.model_dump_json() if config.start else ""
    return run_stage("dataset", config, lambda folder: _work(config, preprocessing, folder), extra_cache_key=taken)


def _work(config: Config, preprocessing: BaseModel, folder: Path) -> StageResult:
    manifest = config.input("studies")
    studies = manifest.path
    for old in folder.glob("clips-*.npy"):
        old.unlink()
    proof, cleared = _proof(manifest, config.public)
    source = Source(studies, config.task, config.site, proof, config.max_studies)
    catalogue = build_catalogue(source, config.split, workers=config.workers, on_progress=printed("dataset"))
    if not len(catalogue.table):
        raise ConfigError(
            f"no study with {SHOWN[by_name(config.task).TRUTH]} was found ({catalogue.left_out or 'no file at all'})."
        )
    _refuse_uncleared(catalogue.table, cleared)
    data_digest = write_catalogue(catalogue.table, folder / "catalogue.parquet")
    unusable = write_shards(
        catalogue.table,
        studies,
        config.task,
        preprocessing,
        folder,
        workers=config.workers,
        on_progress=printed("dataset"),
    )
    Description(
        schema=1,
        task=config.task,
        preprocessing=preprocessing.model_dump(mode="json"),
        split=config.split,
        split_id=catalogue.split_id,
        data_digest=data_digest,
    ).write(folder)
    left_out = catalogue.left_out | unusable
    if left_out:
        sys.stdout.write(f"dataset left out {in_words(left_out)}\n")
    output = Samples(
        task=config.task,
        data_digest=data_digest,
        split_id=catalogue.split_id,
        patients=_patients(catalogue.table),
        left_out=left_out,
    )
    return StageResult(
        counts=output.model_dump(include={"patients"})
        | {"samples": _samples(catalogue.table)}
        | output.model_dump(include={"left_out", "data_digest", "split_id"}),
        output=output,
    )


def in_words(left_out: dict[str, int]) -> str:
    """Returns what a catalogue could not use, such as "4 files: 3 (the same file again), 1 (no label)"."""
    total = sum(left_out.values())
    listed = ", ".join(f"{count} ({reason})" for reason, count in left_out.items())
    return f"{total} file{'s' if total > 1 else ''}: {listed}"


def _preprocessing(config: Config) -> BaseModel:
    if config.start:
        bundle = read(config.start.bundle)
        if bundle.spec.task != config.task:
            raise ConfigError(f"`start` is a bundle of {bundle.spec.task}; the dataset is for {config.task}.")
        if config.preprocessing:
            raise ConfigError("give `preprocessing` or `start`, not both.")
        return bundle.preprocessing
    try:
        return by_name(config.task).Preprocessing(**config.preprocessing)
    except ValidationError as error:
        raise ConfigError(f"`preprocessing` of {config.task} is not valid: {wrong_field(error)}") from None


def _proof(manifest: Manifest, public: str) -> tuple[str, dict[str, str] | None]:
    """Returns the proof that the studies identify nobody, and the SHA-256 by path of each file that it covers; None
    covers all.

    The proof is the publisher of the studies, or the digest of the de-identification report beside them.
    """
    if public:
        return f"{PUBLIC}{public}", None
    studies = manifest.stated(Studies)
    if studies.identity == "none":
        if not manifest.intact():
            raise StageError(
                "the folder of synthetic patients was changed since `phantom` made it; run `phantom` again, or name in "
                "`public` who published the studies without their patients' identity."
            )
        return f"{PUBLIC}{SYNTHETIC}", None
    if studies.identity == "unknown":
        raise ConfigError(
            "the studies come without a de-identification report; run `deid` on them, or name in `public` who "
            "published them without their patients' identity."
        )
    return str(studies.report_sha256), _cleared(manifest.path / "report.json", studies.report_sha256)


def _cleared(path: Path, sha256: str | None) -> dict[str, str]:
    """Returns the SHA-256 of each file that the report at `path` lists as written, by path.

    Raises ConfigError unless the report is exactly the one that `deid` wrote.
    """
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ConfigError("report.json is not the report that `deid` wrote here; run `deid` again.")
    try:
        return {one["output"]: one["output_digest"] for one in json.loads(content)["outcomes"] if one["output"]}
    except (ValueError, KeyError, TypeError):
        raise ConfigError("report.json is not a report of `deid`; run `deid` again.") from None


def _refuse_uncleared(table: pa.Table, cleared: dict[str, str] | None) -> None:
    """Raises StageError if a study differs from the report; the error does not name it, since its name may name a
    patient."""
    rows = table.select(["uri", "sha256"]).to_pylist()
    uncleared = 0 if cleared is None else sum(cleared.get(row["uri"]) != row["sha256"] for row in rows)
    if uncleared:
        raise StageError(
            f"{uncleared} of {len(rows)} studies are not what `deid` wrote by its report: they were added, renamed or "
            "changed since. After `deid accept` run `deid` again; take any others out of its folder and give them to "
            "`deid`. report.json has the SHA-256 of each file that it cleared, as `output_digest`."
        )


def _patients(table: pa.Table) -> dict[Split, int]:
    rows = table.select(["patient", "split"]).to_pylist()
    return {split: len({row["patient"] for row in rows if row["split"] == split}) for split in SPLITS}


def _samples(table: pa.Table) -> dict[Split, dict[str, int]]:
    """Returns the number of samples of each label by split; masks and values count under their kind."""
    kind = by_name(table["task"][0].as_py()).TRUTH
    rows = table.select(["label", "split"]).to_pylist()
    labels = {split: Counter(row["label"] or kind for row in rows if row["split"] == split) for split in SPLITS}
    return {split: dict(sorted(counted.items())) for split, counted in labels.items()}
