"""The interface of runtimes, how one is chosen, and the golden check that a model must pass before it is used."""

import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from echoplane.bundle import Bundle, read
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.spec import MODEL
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes.names import InferenceSettings, Precision, RuntimeName
from echoplane.tasks import Thresholds
from echoplane.tasks.classify import with_declared
from echoplane.tasks.label_shares import LabelShares, check_shares

_MODULES: dict[RuntimeName, str] = {
    "openvino": "echoplane.runtimes.openvino",
    "onnxruntime": "echoplane.runtimes.onnxruntime",
    "tensorrt": "echoplane.runtimes.tensorrt",
    "triton": "echoplane.runtimes.triton",
}

GOLDEN_TOLERANCE: dict[Precision, float] = {"f32": 1e-3, "bf16": 0.1, "f16": 0.02}
"""Largest difference from the golden outputs, as a share of the largest of them (at least 1): bfloat16 keeps 8 bits,
and each layer adds its rounding; float16 keeps 11 bits."""
SAME_LABELS = 0.999
"""Share of the golden labels that a GPU must give as the reference does: all of a classification, and all but one in a
thousand pixels of masks, whose borders are ties."""
GPU_RUNTIMES: tuple[RuntimeName, ...] = ("tensorrt", "triton")
GOLDEN_GREY_LEVELS = 1.0
"""Largest mean difference of the prepared example in grey levels: image libraries round some pixels differently."""

_NAMES_A_FILE = (b"\x08location", b"\x00location")
"""Field names by which an ONNX tensor names an external file of values, with the length prefix of either encoding; a
longer name that contains this word has another byte before it."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of the network for a batch, float32: `output` (batch, label), `embedding` (batch, feature)."""

    output: np.ndarray
    embedding: np.ndarray


class Runtime(Protocol):
    """A loaded model. `run` may be called from any thread; the precision in `settings` is the one actually in use."""

    @property
    def settings(self) -> InferenceSettings: ...

    def run(self, batch: np.ndarray) -> Outputs: ...

    def close(self) -> None:
        """Frees the memory; a `run` in progress ends first."""
        ...


@dataclass(frozen=True)
class OpenModel:
    """A bundle and the runtime that passed its golden check."""

    bundle: Bundle
    runtime: Runtime
    fallback: str = field(default="", kw_only=True)
    """Why a runtime that was preferred to this one is not used; empty if none was."""
    label_shares: LabelShares | None = field(default=None, kw_only=True)
    """Shares of the labels that the site declares; None for those of training."""

    @functools.cached_property
    def thresholds(self) -> Thresholds:
        """The bundle's thresholds, with the site's shares."""
        return with_declared(self.bundle.thresholds, self.label_shares)


def declared(model: OpenModel, shares: LabelShares | None) -> OpenModel:
    """Returns the model that answers with these shares. Raises ConfigError if they are not of its task's labels."""
    if shares is not None:
        check_shares(shares, [label.name for label in model.bundle.spec.labels])
    found = replace(model, label_shares=shares)
    _ = found.thresholds
    return found


def open(bundle: Bundle | str | Path, settings: InferenceSettings) -> OpenModel:  # noqa: A001 (runtimes.open)
    """Reads a bundle, loads its model and runs the golden check; the only way to obtain a model for inference.

    Raises ConfigError for settings that this machine does not support, and BundleError if the model does not load or
    its outputs for its example differ from the reference outputs.
    """
    bundle = bundle if isinstance(bundle, Bundle) else read(bundle)
    runtime: Runtime = importlib.import_module(_MODULES[settings.runtime]).load(onnx_model(bundle), settings)
    try:
        check_golden(bundle, runtime)
    except BaseException:
        runtime.close()
        raise
    return OpenModel(bundle, runtime)


def open_in_order(bundle: Bundle, settings: InferenceSettings, order: Sequence[RuntimeName]) -> OpenModel:
    """Opens `bundle` with the first runtime of `order` that passes; an empty order is the runtime of `settings`.

    Another runtime than that of `settings` chooses its own precision. Raises what `open` raises if no other runtime is
    left.
    """
    reasons: list[str] = []
    *preferred, last = order or (settings.runtime,)
    for name in preferred:
        try:
            opened = open(bundle, _with_runtime(settings, name))
        except (BundleError, ConfigError) as error:
            reasons.append(f"{name}: {error}")
        else:
            return replace(opened, fallback=" ".join(reasons))
    return replace(open(bundle, _with_runtime(settings, last)), fallback=" ".join(reasons))


def _with_runtime(settings: InferenceSettings, name: RuntimeName) -> InferenceSettings:
    if name == settings.runtime:
        return settings
    return settings.model_copy(update={"runtime": name, "precision": "auto", "device": "cpu"})


def onnx_model(bundle: Bundle) -> bytes:
    """Returns the complete ONNX model. Raises BundleError if it keeps values in another file.

    No digest covers such a file, and OpenVINO would read it at any path.
    """
    content = bundle.content(MODEL)
    if any(name in content for name in _NAMES_A_FILE):
        raise BundleError(f"{MODEL} names another file for its weights (location); save it with all weights inside.")
    return content


def check_golden(bundle: Bundle, runtime: Runtime) -> None:
    """Raises BundleError if the prepared example or the model's outputs differ from the references in the bundle."""
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
    if runtime.settings.runtime in GPU_RUNTIMES:
        same = float((outputs.output.argmax(axis=1) == golden.output.argmax(axis=1)).mean())
        if same < SAME_LABELS:
            raise BundleError(f"golden labels: {runtime.settings.runtime} gives {same:.2%} of them as expected.")


def _compare(name: str, found: np.ndarray, expected: np.ndarray, runtime: Runtime) -> None:
    settings = runtime.settings
    if found.shape != expected.shape:
        raise BundleError(f"golden {name}: {settings.runtime} gives {found.shape}, the bundle holds {expected.shape}.")
    allowed = GOLDEN_TOLERANCE[settings.precision] * max(1.0, float(np.abs(expected).max()))
    off = float(np.abs(found - expected).max())
    # Written so that NaN fails too, and so does an infinity, which would allow everything.
    if not (off <= allowed < np.inf):
        raise BundleError(
            f"golden {name}: {settings.runtime} at {settings.precision} is off by {off:.2g}, {allowed:.2g} allowed."
        )
