"""Running a bundle: `open` gives a checked model, `answer` turns one study into its answer."""

from echoplane.runtimes.answer import Answer, answer
from echoplane.runtimes.names import (
    DEFAULT_THREADS,
    InferenceSettings,
    Precision,
    RuntimeName,
    recorded_settings,
)
from echoplane.runtimes.runtime import OpenModel, Outputs, Runtime, open  # noqa: A004 (runtimes.open)

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
    "open",
    "recorded_settings",
]
