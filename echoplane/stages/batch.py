"""Stage `batch`: answers the studies of a folder or a bucket and writes a table with one row per study.

It has three parts, which a pipeline runs as separate steps and the command one after the other: the plan (model,
studies, parts), the answers of each part, the tables. A study that cannot be answered has the reason in its row and
stops nothing. A part that was interrupted continues after its last row.

File names appear in the tables, so the studies must be de-identified.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from echoplane import storage
from echoplane.batch.answers import ABSTAINED, ANSWERED, REFUSED, Model, Row, answers
from echoplane.batch.studies import Files, studies_in
from echoplane.batch.tables import counts, without_names, write_tables
from echoplane.bundle import Bundle, read
from echoplane.errors import BundleError, ConfigError
from echoplane.files import digest_of
from echoplane.retry import retry_while_unavailable
from echoplane.runtimes import InferenceSettings, Precision, RuntimeName, recorded_settings
from echoplane.stages.ingest import STUDIES
from echoplane.stages.outputs import Answers, PlannedParts, StageResult, Studies
from echoplane.stages.phantom import DICOM
from echoplane.stages.progress import printed
from echoplane.stages.stage import From, Manifest, StageConfig, StudiesManifest, run_stage

if TYPE_CHECKING:
    from echoplane.adapters.trust import ModelTrust

PLAN, ROWS, BUNDLE, SEQUENCES = "plan.json", "rows.jsonl", "bundle", "sequences.json"
PUBLISHED = "published"
"""Folder of the results without names of files."""
PlanManifest = Annotated[str, From(("batch-plan",))]


class PlanConfig(StageConfig):
    """Plans which model answers which studies, in which parts."""

    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root", "tracking_uri", "model"})

    studies: StudiesManifest = ""
    """Manifest of the `phantom` or `deid` stage. Omit it, or give one without studies, if `source` is given."""
    source: str = ""
    """Folder of de-identified studies, or s3://BUCKET/PREFIX; read with all its subfolders."""
    task: str = "echo-view-video"
    """Task that answers each study."""
    model: str = "champion"
    """Model that answers: champion, previous, the number of a registered version, or the folder of a bundle."""
    tracking_uri: str = ""
    """Address of the MLflow server. If omitted, the variable MLFLOW_TRACKING_URI."""
    runtime: Literal["", RuntimeName] = ""
    """Runtime. If omitted, the one of the model's evaluation."""
    precision: Literal["", Precision] = ""
    """Precision. If omitted, the one of the model's evaluation."""
    part_size: int = Field(100, ge=1)
    """Number of studies in one part, which one step answers; the maximum that an interruption can lose."""


class PartConfig(StageConfig):
    """Answers one part of a plan."""

    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root", "plan", "part"})

    plan: PlanManifest
    """Manifest of the plan."""
    part: str
    """Number of the part, from 0."""
    study_timeout_s: float = Field(120, gt=0)
    """Maximum time in seconds for one study; a study that takes longer is refused."""


class ResultsConfig(StageConfig):
    """Gathers the answers of all parts of a plan."""

    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset({"root", "parts"})

    plan: PlanManifest
    """Manifest of the plan."""
    parts: Annotated[list[str], From(("batch-part",))]
    """Manifests of the plan's parts."""


class Config(PlanConfig):
    """Answers every study of a folder or a bucket."""

    study_timeout_s: float = Field(120, gt=0)
    """Maximum time in seconds for one study; a study that takes longer is refused."""


class Answering(BaseModel):
    """The model that answers and its inference settings; `name` is the text shown to people."""

    model_config = ConfigDict(frozen=True)

    task: str
    name: str
    bundle: str
    settings: InferenceSettings

    def described(self) -> dict[str, Any]:
        """Returns one table of names and values, for results.json and the page."""
        return self.model_dump(exclude={"settings"}) | self.settings.model_dump()


class Plan(BaseModel):
    model_config = ConfigDict(frozen=True)

    place: str
    answering: Answering
    parts: list[list[Files]]


def run(config: Config) -> Manifest:
    """Runs plan, parts and tables in this process, reusing what is finished; returns the manifest of the tables."""
    planned = plan(PlanConfig(**config.model_dump(exclude={"study_timeout_s"})))
    path = str(planned.path / "manifest.json")
    made = [
        part(PartConfig(root=config.root, plan=path, part=number, study_timeout_s=config.study_timeout_s))
        for number in part_numbers(planned)
    ]
    return results(ResultsConfig(root=config.root, plan=path, parts=[str(m.path / "manifest.json") for m in made]))


def plan(config: PlanConfig) -> Manifest:
    """Divides the studies into parts and stores the model beside them, so that the same model answers all parts."""
    place = _place(config)
    answering, bring = retry_while_unavailable(lambda: _model(config))
    studies = studies_in(storage.listed(place), answering.task)
    if not studies:
        raise ConfigError("there is no study in that place; check `source`.")
    parts = [studies[first : first + config.part_size] for first in range(0, len(studies), config.part_size)]
    planned = Plan(place=place, answering=answering, parts=parts)

    def work(folder: Path) -> StageResult:
        retry_while_unavailable(lambda: bring(folder / BUNDLE))
        (folder / PLAN).write_text(planned.model_dump_json(indent=1), encoding="utf-8")
        counts = {"studies": len(studies), "parts": len(parts), "model": answering.name}
        return StageResult(counts=counts, output=PlannedParts(count=len(parts)))

    return run_stage("batch-plan", config, work, extra_cache_key=digest_of(planned.model_dump(mode="json")))


def part_numbers(planned: Manifest) -> list[str]:
    return [str(number) for number in range(planned.stated(PlannedParts).count)]


def _place(config: PlanConfig) -> str:
    upstream = config.input("studies") if config.studies else None
    studies = upstream.stated(Studies) if upstream else None
    given = studies is not None and studies.count > 0
    if given == bool(config.source):
        raise ConfigError("give either the manifest of studies or `source`, the folder or bucket that holds them.")
    if upstream and studies and given:
        return str(upstream.path / {"file": DICOM, "folder": STUDIES}[studies.unit])
    return config.source


def _model(config: PlanConfig) -> tuple[Answering, Callable[[Path], Any]]:
    """Returns the choice of model, and a function that fetches its bundle into a folder."""
    if "/" in config.model:
        bundle = read(config.model)
        settings = InferenceSettings(precision="f32")
        answering = _answering(config, bundle.spec.task, "a bundle of a folder", bundle.id, settings)
        return answering, lambda to: _copied(bundle, to)
    from echoplane.adapters.registry import CHAMPION, PREVIOUS, Registry

    trust = _trust(config)
    registry = Registry(config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", ""))
    if config.model in (CHAMPION, PREVIOUS):
        version = registry.by_alias(config.task, config.model)
        if version is None:
            raise BundleError(
                f"the registry has no {config.model} of {config.task}: train and promote one first (the pipeline "
                "echo-view does), or name the folder of a bundle."
            )
    elif config.model.isdigit():
        version = registry.by_number(config.task, config.model)
    else:
        raise ConfigError("`model` is champion, previous, a version's number, or the path of a bundle's folder.")
    statement = trust.check(version, CHAMPION, newest=config.model == CHAMPION)
    named = f"version {version.number}"
    answering = _answering(config, config.task, named, version.bundle_id, recorded_settings(version.tags))

    def bring(folder: Path) -> None:
        trust.check_evidence(registry, version, statement)
        registry.download(version, folder)
        trust.accepted(statement if config.model == CHAMPION else None)

    return answering, bring


def _trust(config: PlanConfig) -> "ModelTrust":
    """Returns the trust in registered versions, which remembers under the root what was accepted."""
    from echoplane.adapters.trust import ModelTrust

    return ModelTrust.from_environment(Path(config.root) / SEQUENCES)


def _answering(config: PlanConfig, task: str, name: str, bundle_id: str, evaluated: InferenceSettings) -> Answering:
    if task != config.task:
        raise ConfigError(f"the bundle answers {task}, not {config.task}; set `task`.")
    return Answering(
        task=task,
        name=name,
        bundle=bundle_id,
        settings=evaluated.overridden(runtime=config.runtime, precision=config.precision),
    )


def _copied(bundle: Bundle, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle.folder, folder, ignore=shutil.ignore_patterns("manifest.json", "files.json", ".*"))


def part(config: PartConfig) -> Manifest:
    """Writes a row for each study of one part. A finished part of the same studies and model is reused, in any plan."""
    folder = config.input("plan").path
    planned = Plan.model_validate_json((folder / PLAN).read_bytes())
    if not config.part.isdigit() or int(config.part) >= len(planned.parts):
        raise ConfigError(f"the plan has {len(planned.parts)} parts, numbered from 0.")
    studies = planned.parts[int(config.part)]
    asked = [planned.place, planned.answering.model_dump(), [one.model_dump() for one in studies]]

    def work(made: Path) -> StageResult:
        model = Model(folder=str(folder / BUNDLE), settings=planned.answering.settings)
        return _result(_answer(studies, planned.place, model, config.study_timeout_s, made / ROWS))

    return run_stage("batch-part", config, work, extra_cache_key=digest_of(asked))


def _answer(studies: Sequence[Files], place: str, model: Model, max_s: float, path: Path) -> list[Row]:
    """Returns the rows of `studies`, appending each to the file at `path`; rows that are there already are kept."""
    rows = list(_kept(path))
    path.write_text("".join(f"{row.model_dump_json()}\n" for row in rows), encoding="utf-8")
    done, progress = {row.study for row in rows}, printed("batch")
    with answers(model, place, max_s) as answering, path.open("a", encoding="utf-8") as file:
        for study in studies:
            if study.name not in done:
                row = answering.ask(study)
                file.write(f"{row.model_dump_json()}\n")
                file.flush()
                rows.append(row)
            progress(len(rows), len(studies))
    return rows


def _kept(path: Path) -> Iterator[Row]:
    """Yields the complete rows that an interrupted run left; the last one may be truncated."""
    # not splitlines: names may hold characters that it takes for the end of a line
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else ():
        yield Row.model_validate_json(line)


def _result(rows: Sequence[Row]) -> StageResult:
    found = counts(rows)
    output = Answers(**{name: found[name] for name in ("studies", ANSWERED, ABSTAINED, REFUSED)})
    return StageResult(counts=found, output=output, set_aside=output.refused)


def results(config: ResultsConfig) -> Manifest:
    """Writes results.csv, results.json and report.html over all parts, sorted by study, and the same without names of
    files in `PUBLISHED`, for stores that must not hold patients' names."""
    folder = config.input("plan").path
    planned = Plan.model_validate_json((folder / PLAN).read_bytes())
    parts = config.inputs("parts")

    def work(made: Path) -> StageResult:
        rows = sorted((row for one in parts for row in _kept(one.path / ROWS)), key=lambda row: row.study)
        due = sorted(study.name for names in planned.parts for study in names)
        if [row.study for row in rows] != due:
            raise ConfigError(f"the parts hold {len(rows)} studies, the plan {len(due)}; give the plan's own parts.")
        write_tables(rows, planned.answering.described(), made)
        (made / PUBLISHED).mkdir(exist_ok=True)
        write_tables(without_names(rows), planned.answering.described(), made / PUBLISHED)
        return _result(rows)

    return run_stage("batch", config, work, extra_cache_key=digest_of(sorted(one.digest for one in parts)))
