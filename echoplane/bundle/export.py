"""Turns a trained network into a finished bundle. Needs torch, which only the functions import.

Axes: B row of a batch.
"""

import functools
import importlib
import io
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from pydantic import BaseModel

from echoplane.bundle.accuracy_fit import fitted_accuracy
from echoplane.bundle.bundle import GOLDEN_SEED, Golden
from echoplane.bundle.card import card
from echoplane.bundle.seal import seal, write_golden
from echoplane.bundle.spec import ACCURACY, CARD, MODEL, WEIGHTS, Code, Contents, InputShape, labels_of
from echoplane.dataset.shards import Shards, batches_of_one_shape
from echoplane.errors import BundleError, ConfigError
from echoplane.tasks import Calibration, Validated, by_name, learning

OPSET = 17
"""ONNX operator set, supported by every runtime that we know of, older TensorRT included."""
PARITY = 1e-4
"""Largest difference between torch and ONNX in float32, as a share of the largest output (at least 1)."""
PARITY_CLIPS = 48
BATCH = 16
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Exported:
    """Id of the finished bundle, its calibration, and the difference between ONNX and torch."""

    bundle_id: str
    calibration: Calibration
    parity: float


@dataclass(frozen=True)
class Training:
    """Output of the train stage: `checkpoint.safetensors` and `training.json`."""

    folder: Path
    task: str
    network: dict[str, Any]
    steps: int
    split_id: str
    data_digest: str
    started_from: str | None = None
    """Id of the bundle whose weights training started from."""

    @classmethod
    def read(cls, folder: Path) -> "Training":
        stated = json.loads((folder / "training.json").read_text())
        return cls(
            folder=folder,
            task=stated["task"],
            network=stated["network"],
            steps=stated["steps"],
            split_id=stated["split_id"],
            data_digest=stated["data_digest"],
            started_from=stated.get("started_from"),
        )


def export(
    training: Training,
    shards: Shards,
    preprocessing: BaseModel,
    folder: Path,
    code: Code,
    on_progress: Callable[[int, int], None],
) -> Exported:
    """Exports the network, compares ONNX with torch, calibrates on the validation samples, fits the estimate of
    accuracy without labels, and finalises the bundle.

    Raises BundleError if ONNX and torch differ by more than PARITY on the golden input or on validation samples.
    """
    network, task, half = _trained_network(training), by_name(training.task), learning(training.task)
    golden_batch = task.preprocess(task.example(GOLDEN_SEED), preprocessing).batch
    golden = Golden(golden_batch, *_torch_outputs(network, golden_batch))
    has_sides = golden.output.ndim > 2
    (folder / MODEL).write_bytes(to_onnx(network, golden_batch, free_sides=has_sides))
    session = _session(folder / MODEL)
    rows = shards.rows_of("validation")
    some = [inputs for _, inputs, _ in _batches(shards, rows[:PARITY_CLIPS], half)]
    if has_sides:  # sizes other than those that the graph was traced with
        some.append(np.pad(golden_batch, ((0, 0), (0, 32), (0, 16))))
    parity = check_parity(network, session, [golden_batch, *some])
    calibration = task.calibrate(_validated(session, shards, _batches(shards, rows, half), on_progress))
    shutil.copyfile(training.folder / "checkpoint.safetensors", folder / WEIGHTS)
    write_golden(folder, golden)
    if fitted := fitted_accuracy(task, calibration.thresholds, shards, functools.partial(_onnx_outputs, session)):
        (folder / ACCURACY).write_text(fitted.model_dump_json(indent=1))
    contents = _contents(training, preprocessing, golden_batch.shape[1:], calibration, code)
    (folder / CARD).write_text(card(contents, task.about(calibration.thresholds), calibration, training.steps, shards))
    return Exported(seal(folder, contents), calibration, parity)


def to_onnx(network: Any, example: np.ndarray, *, free_sides: bool = False, norms_apart: bool = False) -> bytes:
    """Returns the network as ONNX with a free batch axis, input `input`, and outputs `output` and `embedding`.

    With `free_sides` the last two axes of input and output are free as well: a mask has the size of its image. With
    `norms_apart` the kernels stay as they are in the network; otherwise the normalisation that follows is folded into
    them. Uses the TorchScript exporter: the other one takes twenty times as long and gives a newer operator set.
    """
    torch = importlib.import_module("torch")
    buffer, names = io.BytesIO(), ("input", "output", "embedding")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.from_numpy(example),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[names[0]],
            output_names=list(names[1:]),
            dynamic_axes={name: _free_axes(name, example.ndim, free_sides) for name in names},
            training=torch.onnx.TrainingMode.PRESERVE if norms_apart else torch.onnx.TrainingMode.EVAL,
        )
    return buffer.getvalue()


def _free_axes(name: str, axes: int, free_sides: bool) -> dict[int, str]:
    if not free_sides or name == "embedding":
        return {0: "batch"}
    rows = axes - 2 if name == "input" else axes - 1  # an output also has a class axis
    return {0: "batch", rows: "rows", rows + 1: "columns"}


def check_parity(network: Any, session: ort.InferenceSession, batches: list[np.ndarray]) -> float:
    """Returns the largest absolute difference of outputs and embeddings over `batches`. Raises BundleError beyond
    PARITY."""
    worst = 0.0
    for batch in batches:
        for name, torchs, onnxs in zip(
            ("output", "embedding"), _torch_outputs(network, batch), _onnx_outputs(session, batch), strict=True
        ):
            off = float(np.abs(torchs - onnxs).max())
            allowed = PARITY * max(1.0, float(np.abs(torchs).max()))
            if not (off <= allowed < np.inf):  # an infinite output would allow any difference
                raise BundleError(f"{name} of ONNX is off torch's by {off:.2g}, {allowed:.2g} allowed: not sealed.")
            worst = max(worst, off)
    return worst


def _trained_network(training: Training) -> Any:
    """Returns the network with the checkpoint's weights, in inference mode."""
    load_file = importlib.import_module("safetensors.torch").load_file
    half = learning(training.task)
    network = half.network(half.Network.model_validate(training.network))
    try:
        network.load_state_dict(load_file(training.folder / "checkpoint.safetensors"))
    except RuntimeError as error:
        raise ConfigError("the checkpoint's weights do not fit the network that training.json describes.") from error
    return network.eval()


def _torch_outputs(network: Any, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    torch = importlib.import_module("torch")
    with torch.inference_mode():
        output, embedding = network(torch.from_numpy(batch))
    return output.numpy(), embedding.numpy()


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _onnx_outputs(session: ort.InferenceSession, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    output, embedding = session.run(["output", "embedding"], {"input": batch})
    return output, embedding


def _batches(shards: Shards, rows: np.ndarray, half: Any) -> Iterator[Batch]:
    """Yields the rows' network inputs and targets, in parts whose samples can be stacked."""
    for rows_B in batches_of_one_shape(shards, rows, BATCH):
        samples = np.stack([shards.sample(row) for row in rows_B])
        yield rows_B, *half.parts(samples, shards.truths[rows_B])


def _validated(
    session: ort.InferenceSession, shards: Shards, batches: Iterable[Batch], on_progress: Callable[[int, int], None]
) -> Iterator[Validated]:
    """Yields outputs, targets and sample names of the validation split, batch by batch."""
    done, total = 0, len(shards.rows_of("validation"))
    for rows_B, inputs, targets in batches:
        yield _onnx_outputs(session, inputs)[0], targets, shards.index["sample"][rows_B]
        done += len(rows_B)
        on_progress(done, total)


def _contents(
    training: Training, preprocessing: BaseModel, shape: tuple[int, ...], calibration: Calibration, code: Code
) -> Contents:
    return Contents(
        task=training.task,
        labels=labels_of(training.task),
        preprocessing=preprocessing.model_dump(mode="json"),
        network=training.network,
        input=InputShape(shape=shape),
        thresholds=calibration.thresholds.model_dump(mode="json"),
        data_digest=training.data_digest,
        split_id=training.split_id,
        started_from=training.started_from,
        code=code,
    )
