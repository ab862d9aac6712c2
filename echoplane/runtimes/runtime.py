"""What a runtime is, how one is chosen, and the golden check that it must pass before it answers anybody."""

import importlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from echoplane.bundle import Bundle
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.spec import MODEL
from echoplane.errors import BundleError, ConfigError

_MODULES = {"openvino": "echoplane.runtimes.openvino", "onnxruntime": "echoplane.runtimes.onnxruntime"}
NAMES = tuple(_MODULES)
PRECISIONS = ("auto", "f32", "bf16")
DEFAULT_THREADS = 2
"""Cores for one study. The same number in evaluation and serving gives the same sums to the last bit."""

GOLDEN_TOLERANCE = {"f32": 1e-3, "bf16": 0.1}
"""Largest difference from the golden outputs, as a share of the largest of them (at least 1): bfloat16 keeps
8 bits, and each layer adds its rounding."""
GOLDEN_GREY_LEVELS = 1.0
"""Largest mean difference of the prepared example: image libraries round differently by a level here and there."""

_NAMES_A_FILE = (b"\x08location", b"\x00location")
"""The key by which a tensor in ONNX names the file of its values, after its length in either way of writing one; a
longer name with this word in it has another byte before it."""


@dataclass(frozen=True)
class Outputs:
    """What the network gives for a batch, float32: `output` (batch, label), `embedding` (batch, feature)."""

    output: np.ndarray
    embedding: np.ndarray


class Runtime(Protocol):
    """A loaded model. `run` may be called from any thread; `precision` is the one really in use."""

    name: str
    precision: str
    threads: int

    def run(self, batch: np.ndarray) -> Outputs: ...

    def close(self) -> None:
        """Give the memory back; a `run` in progress ends first."""
        ...


def load(
    bundle: Bundle,
    device: str = "cpu",
    precision: str = "auto",
    runtime: str = "openvino",
    threads: int = DEFAULT_THREADS,
) -> Runtime:
    """`bundle` ready to run. `auto` is bf16 where the processor computes in it, else f32.

    ConfigError for a device, precision or runtime that is not there; BundleError for a model that does not load.
    """
    if runtime not in _MODULES:
        raise ConfigError(f"there is no runtime {runtime!r}; expected one of {', '.join(NAMES)}.")
    if device != "cpu":
        raise ConfigError(f"{runtime} runs on cpu here, not on {device!r}.")
    if precision not in PRECISIONS:
        raise ConfigError(f"there is no precision {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    loaded: Runtime = importlib.import_module(_MODULES[runtime]).load(_model(bundle), precision, threads)
    return loaded


def _model(bundle: Bundle) -> bytes:
    """The ONNX model, whole; BundleError where values lie in another file.

    No digest covers such a file, and OpenVINO would read it at any path.
    """
    content = bundle.content(MODEL)
    if any(name in content for name in _NAMES_A_FILE):
        raise BundleError(f"{MODEL} names another file for its weights (location); save it with all weights inside.")
    return content


def check_golden(bundle: Bundle, runtime: Runtime) -> None:
    """Refuse (BundleError) a bundle that prepares or answers its own example otherwise than where it was made."""
    golden, task = bundle.golden, bundle.task
    prepared = task.preprocess(task.example(GOLDEN_SEED), bundle.preprocessing).batch
    if prepared.shape != golden.batch.shape or prepared.dtype != golden.batch.dtype:
        raise BundleError(
            f"golden input: preprocessing gives {prepared.dtype} {prepared.shape}, "
            f"the bundle holds {golden.batch.dtype} {golden.batch.shape}."
        )
    levels = float(np.abs(prepared.astype(float) - golden.batch).mean())
    if levels > GOLDEN_GREY_LEVELS:
        raise BundleError(
            f"golden input: preprocessing is off by {levels:.2f} grey levels on average, {GOLDEN_GREY_LEVELS} allowed."
        )
    outputs = runtime.run(golden.batch)
    _compare("output", outputs.output, golden.output, runtime)
    _compare("embedding", outputs.embedding, golden.embedding, runtime)


def _compare(name: str, found: np.ndarray, expected: np.ndarray, runtime: Runtime) -> None:
    if found.shape != expected.shape:
        raise BundleError(f"golden {name}: {runtime.name} gives {found.shape}, the bundle holds {expected.shape}.")
    allowed = GOLDEN_TOLERANCE[runtime.precision] * max(1.0, float(np.abs(expected).max()))
    off = float(np.abs(found - expected).max())
    # Written so that a NaN fails too, and an infinity that would allow everything.
    if not (off <= allowed < np.inf):
        raise BundleError(
            f"golden {name}: {runtime.name} at {runtime.precision} is off by {off:.2g}, {allowed:.2g} allowed."
        )
