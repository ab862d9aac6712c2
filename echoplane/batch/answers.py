"""An answer for each of many studies, or the reason why there is none.

Studies are answered in a separate process. A study that crashes the decoder, exhausts the memory or never ends loses
only that process, which is started again; the study gets a reason like any other that cannot be answered.
"""

import hashlib
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from echoplane import bundle, runtimes, storage
from echoplane.batch.studies import Files
from echoplane.errors import InputError, StageError, explained
from echoplane.parent import end_with_parent
from echoplane.processes import forbid_core_dumps
from echoplane.study.cine_files import read_cines
from echoplane.study.reading import read_study
from echoplane.study.study import Study
from echoplane.tasks import probabilities_of, threshold_of

ANSWERED, ABSTAINED, REFUSED = "answered", "abstained", "refused"
LOAD_S = 300.0
"""Time limit in seconds for loading and checking a model."""


class Row(BaseModel):
    """Outcome of one study. `reason` says why it was refused or why the model cannot tell."""

    model_config = ConfigDict(frozen=True)

    study: str
    outcome: str
    label: str = ""
    title: str = ""
    confidence: float | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()
    probabilities: dict[str, float] = {}
    details: dict[str, Any] = {}
    sha256: str = ""
    """SHA-256 of the study's files, concatenated."""
    duration_ms: float = 0


class Model(BaseModel):
    """The model, its task and its inference settings."""

    model_config = ConfigDict(frozen=True)

    folder: str
    """Folder of the bundle."""
    settings: runtimes.InferenceSettings


class Answers:
    """The process that answers; `ask` returns a row even if the study ends that process."""

    def __init__(self, model: Model, place: str, max_s: float, serve: Callable[..., None] | None = None) -> None:
        self._model, self._place, self._most_s = model, place, max_s
        self._serve = serve or _serve
        self._process: Any = None

    def ask(self, study: Files) -> Row:
        """Returns the row of `study`. Raises StageError if the model does not load or the store stays unavailable,
        which no study can cause."""
        if self._process is None:
            self._start()
        try:
            self._pipe.send(study)
            said = self._pipe.recv() if self._pipe.poll(self._most_s) else None
        except (EOFError, OSError):
            self.close()
            return refused(study.name, "it ended the process that read it: a damaged file, or more than memory holds.")
        if said is None:
            self.close()
            return refused(study.name, f"no answer within {self._most_s:g} s; give a larger `study_timeout_s`.")
        if isinstance(said, StageError):
            raise said
        return Row.model_validate(said)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._serve, args=(theirs, self._model, self._place), daemon=True)
        self._process.start()
        theirs.close()
        try:
            problem = self._pipe.recv() if self._pipe.poll(LOAD_S) else "no answer while loading."
        except EOFError:
            problem = "its process ended while loading."
        if problem:
            self.close()
            raise StageError(f"the model can't be used: {problem}")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


@contextmanager
def answers(model: Model, place: str, max_s: float) -> Iterator[Answers]:
    """Yields a process that answers studies of `place`, each in at most `max_s` seconds; it ends with the context."""
    started = Answers(model, place, max_s)
    try:
        yield started
    finally:
        started.close()


def refused(study: str, reason: str, sha256: str = "") -> Row:
    return Row(study=study, outcome=REFUSED, reason=reason, sha256=sha256)


def _serve(pipe: Connection, model: Model, place: str) -> None:
    """Runs in the process: loads the model once, then sends a row for each study received."""
    forbid_core_dumps()
    if parent := multiprocessing.parent_process():
        end_with_parent(parent.pid)
    try:
        opened = runtimes.open(model.folder, model.settings)
    except Exception as error:
        pipe.send(explained(error))
        return
    pipe.send("")
    while True:
        try:
            study = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(answered(study, place, opened).model_dump())
        except StageError as error:
            pipe.send(error)


def answered(study: Files, place: str, model: runtimes.OpenModel) -> Row:
    """Returns the row of one study."""
    digest = hashlib.sha256()
    try:
        contents = [storage.content(place, name) for name in study.files]
        for one in contents:
            digest.update(one)
        found = runtimes.answer(_read(study, contents), model)
    except FileNotFoundError:
        return refused(study.name, "it is gone since the studies were listed, or its name is not UTF-8; rename it.")
    except StageError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, InputError) else explained(error)
        return refused(study.name, reason, digest.hexdigest())
    result = found.result
    titles = {label.name: label.title for label in model.bundle.spec.labels}
    return Row(
        study=study.name,
        outcome=ABSTAINED if result.label is None else ANSWERED,
        label=result.label or "",
        title=titles.get(result.label or "", ""),
        confidence=result.confidence,
        reason="" if result.label else _unsure(result, model.bundle),
        warnings=result.warnings,
        probabilities=probabilities_of(result),
        details=result.details(),
        sha256=digest.hexdigest(),
        duration_ms=round(sum(found.timings_ms.values()), 1),
    )


def _read(study: Files, contents: list[bytes]) -> Study:
    """Reads one file from memory; files that belong together are written to a temporary folder, since their names
    matter."""
    if len(contents) == 1:
        return read_study(contents[0])
    with tempfile.TemporaryDirectory(prefix="echoplane-") as folder:
        for name, content in zip(study.files, contents, strict=True):
            (Path(folder) / Path(name).name).write_bytes(content)
        return Study((), read_cines(Path(folder)))


def _unsure(result: Any, model: bundle.Bundle) -> str:
    flags = result.details().get("flags", [])
    if flags:
        return " ".join(flag["sentence"] for flag in flags)
    threshold = threshold_of(result, model.thresholds)
    if result.confidence is None or threshold is None:
        return "the model can't tell."
    return f"confidence {result.confidence:.2f} is under the threshold of {threshold:.2f}."
