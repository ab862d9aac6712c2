"""The contract of a task: what every folder under `echoplane/tasks` gives.

A task is a module. Its numpy half (the module itself) serves training and serving alike; its torch half, the
module's `learning`, is loaded by name and only where a network is trained or exported.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from echoplane.study.masks import Masks
from echoplane.study.study import Study

Rows = Mapping[str, np.ndarray]
"""A table of scored studies as columns of equal length: `patient`, `sample`, `confidence`, `abstained`, the subgroups,
and what the task's `score` gave of each."""
Truth = str | Masks | float
"""What a study shows: the name of its label, what readers drew on it, or a measured value."""
Run = Callable[[np.ndarray], np.ndarray]
"""A loaded model: some rows of a batch, whole or cut to a window, to their outputs."""
Validated = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A batch of validation samples: the network's outputs, the targets (as `Learning.parts` gives them), and the name of
the sample that each row belongs to."""


@dataclass(frozen=True)
class Label:
    """One answer of a classifier, or one measured quantity: its `name` on the wire, `title` for people, DICOM code."""

    name: str
    title: str
    code: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Prepared:
    """A study as the network takes it: `batch` whose first axis is the network's, `place` says where it came from.

    `place` is plain data: what `interpret` needs to put an answer back on the input's grid.
    """

    batch: np.ndarray
    place: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Thresholds(BaseModel):
    """What turns outputs into an answer, fitted on validation data. A task derives its own from this."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    abstain_below: float | None = Field(default=None, ge=0, le=1)
    """A confidence under this answers "cannot tell"; None for a task that never does."""


@dataclass(frozen=True)
class Calibration:
    """What was fitted on validation data, its figures there, and the sentence that says so on the model card."""

    thresholds: Thresholds
    figures: dict[str, float]
    sentence: str


@dataclass(frozen=True)
class Samples:
    """What a network learns from one study: `samples` (sample, ...) uint8, and the `label` of each.

    A classifier's label is the place of its truth among the labels. Elsewhere it is a stratum: sampling shows every
    label equally often. `values` are what a network that measures shall answer for each.
    """

    samples: np.ndarray
    labels: tuple[int, ...]
    values: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Result:
    """The answer. `label` is None for "cannot tell", `confidence` None for a task that has none."""

    label: str | None
    confidence: float | None = None
    warnings: tuple[str, ...] = ()

    def details(self) -> dict[str, Any]:
        """What a task answers beyond a label, as plain data."""
        return {}

    def files(self, study: Study) -> dict[str, bytes]:
        """What a task answers as files, by name."""
        return {}


@dataclass(frozen=True)
class Classification(Result):
    """One of the task's labels. `probabilities` are in the order of the labels."""

    probabilities: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Segmentation(Result):
    """Masks, uint8 (phase, slice, row, column) by plane, on the grid of the study."""

    masks: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Measurement(Result):
    """A measured quantity, whose name is the label."""

    value: float = float("nan")
    unit: str = ""

    def details(self) -> dict[str, Any]:
        """The value by name, and its unit."""
        return {"measures": {self.label: self.value}, "unit": self.unit}


def probabilities_of(result: Result) -> dict[str, float]:
    """The probability of each label; none for an answer that is no classification."""
    return result.probabilities if isinstance(result, Classification) else {}


class Task(Protocol):
    """What a task's module gives."""

    NAME: str
    Preprocessing: type[BaseModel]
    Thresholds: type[Thresholds]
    MODALITY: str
    """DICOM modality of the studies that it accepts."""
    STUDY: Literal["file", "folder"]
    """What a data set holds a study as: one DICOM file, or a folder of files that belong together."""
    TRUTH: Literal["label", "masks", "value"]
    """How a data set says what a study shows: see `Truth`."""
    TRUTH_COLUMN: str
    """Column of labels.csv that holds it; empty for masks, which lie beside the study."""
    HEADLINE: tuple[str, ...]
    """The figures of `summary` that say most, the foremost first."""

    def labels(self) -> tuple[Label, ...]:
        """Names, codes and display order."""
        ...

    def accepts(self, study: Study) -> bool:
        """True if the study is of the modality and kind that this task answers; several tasks may accept one study."""
        ...

    def preprocess(self, study: Study, config: Any) -> Prepared:
        """The network's input; UnusableStudy where the study can't be answered."""
        ...

    def infer(self, run: Run, prepared: Prepared) -> np.ndarray:
        """What `interpret` needs of the network's answers to `prepared`, a row for each of its batch.

        A large batch is run in parts, and little is kept of each: masks of a whole cine fit where probabilities would
        not. A part may be cut to where earlier ones found something.
        """
        ...

    def interpret(self, outputs: np.ndarray, study: Study, place: Mapping[str, Any], thresholds: Any) -> Result:
        """The answer to one study from what `infer` kept of all rows of its batch."""
        ...

    def samples(self, study: Study, prepared: Prepared, truth: Truth) -> Samples:
        """What training and validation show of one study."""
        ...

    def calibrate(self, batches: Iterable[Validated]) -> Calibration:
        """Thresholds from validation batches, which come one after the other: outputs of all of them may not fit."""
        ...

    def about(self, thresholds: Any) -> str:
        """What an answer is, in a sentence for the model card."""
        ...

    def score(self, result: Result, study: Study, truth: Truth) -> dict[str, Any]:
        """How right an answer is, as a row's own columns: numbers (NaN where there is none), text, lists of numbers."""
        ...

    def summary(self, rows: Rows) -> dict[str, float]:
        """The figures of a set of scored studies; every interval and every comparison is made of this function."""
        ...

    def showing(self, rows: Rows) -> dict[str, np.ndarray]:
        """Which rows show each label, by its name: no floor is asked for what too few patients show."""
        ...

    def details(self, rows: Rows) -> dict[str, Any]:
        """What an evaluation says beyond figures, as plain data: a confusion matrix, agreement, failures by name."""
        ...

    def example(self, seed: int) -> Study:
        """A synthetic input: a simple moving pattern, never a patient."""
        ...


class Learning(Protocol):
    """What a task's `learning` module gives: training only, torch inside."""

    Network: type[BaseModel]
    Augmentation: type[BaseModel]

    def network(self, config: Any) -> Any:
        """A torch module: one tensor in (what `preprocess` gives), `(output, embedding)` out."""
        ...

    def parts(self, samples: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The network's input and the loss's target from samples (batch, ...) and their labels or values (batch).

        A classifier's target is the label, a measurement's the value; a mask lies in the sample beside its image, so
        that both move together.
        """
        ...

    def loss(self, output: Any, target: Any) -> Any:
        """A scalar tensor; ignores classes that a source never labelled."""
        ...

    def score(self, output: Any, target: Any) -> Any:
        """How right each output is, (batch) from 0 to 1: what a validation reports as accuracy."""
        ...

    def augment(self, sample: np.ndarray, rng: np.random.Generator, config: Any) -> np.ndarray:
        """One training sample changed at random; every sample comes out in one shape."""
        ...


def as_task(module: ModuleType) -> Task:
    """The module seen as a task; the names are checked by tests/unit/test_contracts.py."""
    return module
