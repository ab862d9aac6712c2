"""Runs a bundle: `open` returns a verified model, `answer` returns its answer to one study."""

from echoplane.runtimes.answer import Answer, answer
from echoplane.runtimes.names import (
    DEFAULT_THREADS,
    InferenceSettings,
    Precision,
    RuntimeName,
    recorded_settings,
)
from echoplane.runtimes.runtime import (
    OpenModel,
    Outputs,
    Runtime,
    declared,
    onnx_model,
    open,  # noqa: A004 (runtimes.open)
    open_in_order,
)

__all__ = [
    "DEFAULT_THREADS",
    "Answer",
    "InferenceSettings",
    "OpenModel",
    "Outputs",
    "Precision",
    "Runtime",
    "RuntimeName",
    "answer",
    "declared",
    "onnx_model",
    "open",
    "open_in_order",
    "recorded_settings",
]
