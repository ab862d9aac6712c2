"""Contract of a task: the functions and constants that every package under `echoplane/tasks` defines.

A task is a module. Its numpy half (the module itself) is used in training and serving alike; its torch half, the
module's `learning`, is loaded by name and only if a network is trained or exported. A task whose answers hold files
also has a package `outputs`, which writes them as DICOM.
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
"""Table of scored studies as columns of equal length: `patient`, `sample`, `confidence`, `abstained`, the subgroups,
and the columns of the task's `score`."""
Truth = str | Masks | float
"""Ground truth of a study: the name of its label, its annotated masks, or a measured value."""
Run = Callable[[np.ndarray], np.ndarray]
"""Loaded model: maps some rows of a batch, whole or cropped to a window, to their outputs."""
Validated = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Batch of validation samples: the network's outputs, the targets (as returned by `Learning.parts`), and the name of
the sample that each row belongs to."""


@dataclass(frozen=True)
class Label:
    """One answer of a classifier, or one measured quantity: `name` in data, `title` for people, and DICOM code."""

    name: str
    title: str
    code: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Prepared:
    """Study as the network's input: `batch`, whose first axis is the network's, and `place`, its geometry in the study.

    `place` is plain data: all that `interpret` needs to put an answer back on the input's grid.
    """

    batch: np.ndarray
    place: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Thresholds(BaseModel):
    """Thresholds that turn outputs into an answer, fitted on validation data. A task derives its own from this
    class."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    abstain_below: float | None = Field(default=None, ge=0, le=1)
    """Confidence below which the answer is "cannot tell"; None for a task that never abstains."""

    def needed_for(self, label: str) -> float | None:
        """Returns the confidence below which `label` is not given."""
        return self.abstain_below


@dataclass(frozen=True)
class Calibration:
    """Thresholds fitted on validation data, their figures there, and the sentence about them on the model card."""

    thresholds: Thresholds
    figures: dict[str, float]
    sentence: str


@dataclass(frozen=True)
class Samples:
    """Training samples of one study: `samples` (sample, ...) uint8, and the `label` of each.

    A classifier's label is the index of its truth among the labels. For other tasks it is a stratum: sampling shows
    every label equally often. `values` are the targets of a network that measures.
    """

    samples: np.ndarray
    labels: tuple[int, ...]
    values: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Result:
    """Answer to a study. `label` is None for "cannot tell", `confidence` None for a task that has none."""

    label: str | None
    confidence: float | None = None
    warnings: tuple[str, ...] = ()

    def details(self) -> dict[str, Any]:
        """Returns the results beyond a label, as plain data."""
        return {}

    def files(self, study: Study) -> dict[str, bytes]:
        """Returns the result files, by name."""
        return {}


@dataclass(frozen=True)
class Classification(Result):
    """Answer that is one of the task's labels. `probabilities` are in the order of the labels."""

    probabilities: dict[str, float] = field(default_factory=dict)
    label_shares: Mapping[str, float] = field(default_factory=dict)
    """Shares that a site declared and that the probabilities take into account; empty if there are none."""

    def details(self) -> dict[str, Any]:
        """Returns the site's shares if they were applied."""
        return {"label_shares": dict(self.label_shares)} if self.label_shares else {}


@dataclass(frozen=True)
class Segmentation(Result):
    """Answer that is masks, uint8 (phase, slice, row, column) by plane, on the grid of the study."""

    masks: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Measurement(Result):
    """Answer that is a measured quantity, whose name is the label."""

    value: float = float("nan")
    unit: str = ""

    def details(self) -> dict[str, Any]:
        """Returns the value by name, and its unit."""
        return {"measures": {self.label: self.value}, "unit": self.unit}


def probabilities_of(result: Result) -> dict[str, float]:
    """Returns the probability of each label; empty for an answer that is not a classification."""
    return result.probabilities if isinstance(result, Classification) else {}


def threshold_of(result: Result, thresholds: Thresholds) -> float | None:
    """Returns the confidence that the answer's most probable label needed; None for a task that never abstains."""
    probabilities = probabilities_of(result)
    return thresholds.needed_for(max(probabilities, key=probabilities.__getitem__, default=""))


class Task(Protocol):
    """Members of a task's module."""

    NAME: str
    Preprocessing: type[BaseModel]
    Thresholds: type[Thresholds]
    MODALITY: str
    """DICOM modality of the studies that the task accepts."""
    STUDY: Literal["file", "folder"]
    """Form of a study in a data set: one DICOM file, or a folder of files that belong together."""
    TRUTH: Literal["label", "masks", "value"]
    """Form of the ground truth in a data set: see `Truth`."""
    TRUTH_COLUMN: str
    """Column of labels.csv that holds the truth; empty for masks, which lie beside the study."""
    HEADLINE: tuple[str, ...]
    """Most informative figures of `summary`, the most important first."""

    def labels(self) -> tuple[Label, ...]:
        """Returns the labels with their names and codes, in display order."""
        ...

    def accepts(self, study: Study) -> bool:
        """Returns True if the study is of the modality and kind that this task answers; several tasks may accept one
        study."""
        ...

    def preprocess(self, study: Study, config: Any) -> Prepared:
        """Returns the network's input. Raises UnusableStudy if the study cannot be answered."""
        ...

    def infer(self, run: Run, prepared: Prepared) -> np.ndarray:
        """Returns the part of the network's outputs for `prepared` that `interpret` needs, one row per row of its
        batch.

        A large batch is run in parts, and only a reduced result of each is kept: masks of a whole cine fit in memory
        where probabilities would not. A part may be cropped to where earlier parts detected something.
        """
        ...

    def interpret(self, outputs: np.ndarray, study: Study, place: Mapping[str, Any], thresholds: Any) -> Result:
        """Returns the answer to one study from the rows that `infer` returned."""
        ...

    def samples(self, study: Study, prepared: Prepared, truth: Truth) -> Samples:
        """Returns the samples of one study for training and validation."""
        ...

    def calibrate(self, batches: Iterable[Validated]) -> Calibration:
        """Returns thresholds fitted on validation batches, which are yielded one at a time: the outputs of all of them
        may not fit in memory."""
        ...

    def about(self, thresholds: Any) -> str:
        """Returns a sentence for the model card that describes an answer."""
        ...

    def score(self, result: Result, study: Study, truth: Truth) -> dict[str, Any]:
        """Returns the correctness of an answer, as a row's own columns: numbers (NaN if undefined), text, lists of
        numbers."""
        ...

    def summary(self, rows: Rows) -> dict[str, float]:
        """Returns the figures of a set of scored studies; every interval and every comparison is computed with this
        function."""
        ...

    def showing(self, rows: Rows) -> dict[str, np.ndarray]:
        """Returns the rows that show each label, by its name: a label with too few patients is not held to a
        minimum."""
        ...

    def details(self, rows: Rows) -> dict[str, Any]:
        """Returns the evaluation's results beyond figures, as plain data: a confusion matrix, agreement, failures by
        name."""
        ...

    def example(self, seed: int) -> Study:
        """Returns a synthetic input: a simple moving pattern, never a patient."""
        ...


class Learning(Protocol):
    """Members of a task's `learning` module, used for training only; it imports torch."""

    Network: type[BaseModel]
    Augmentation: type[BaseModel]

    def network(self, config: Any) -> Any:
        """Returns a torch module: one tensor in (the output of `preprocess`), `(output, embedding)` out."""
        ...

    def parts(self, samples: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the network's input and the loss's target from samples (batch, ...) and their labels or values
        (batch).

        A classifier's target is the label, a measurement's the value; a mask is stored in the sample beside its image,
        so that augmentation moves both together.
        """
        ...

    def loss(self, output: Any, target: Any) -> Any:
        """Returns a scalar tensor; classes that a source never labelled are ignored."""
        ...

    def score(self, output: Any, target: Any) -> Any:
        """Returns the correctness of each output, (batch) from 0 to 1, reported as the validation accuracy."""
        ...

    def augment(self, sample: np.ndarray, rng: np.random.Generator, config: Any) -> np.ndarray:
        """Returns one training sample changed at random; every sample has the same output shape."""
        ...


class Outputs(Protocol):
    """Members of a task's package `outputs`, which only a task needs whose answers hold files; it imports highdicom."""

    def objects_of_answer(
        self, answer: dict[str, Any], study: Study, contents: Iterable[bytes]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Returns DICOM data sets of the service's `answer` to `study` by file name, and warnings. `contents` are those
        of the files that the study was read from. Raises an InputError if the answer's files do not fit the study."""
        ...


def as_task(module: ModuleType) -> Task:
    """Returns the module typed as a task; tests/unit/test_contracts.py checks its members."""
    return module
