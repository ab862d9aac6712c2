"""A bundle as an MLflow pyfunc, loaded by module name: nothing is pickled."""

from pathlib import Path
from typing import Any

from echoplane import runtimes
from echoplane.runtimes import InferenceSettings, answer
from echoplane.study.reading import read_study, read_study_at
from echoplane.tasks import probabilities_of


class BundleModel:
    """What `mlflow.pyfunc.load_model` wraps: in float32, which is the same on every processor."""

    def __init__(self, folder: str | Path) -> None:
        self._model = runtimes.open(folder, InferenceSettings(precision="f32"))

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Of each study (its path or its file's bytes; one, a list, or a frame's first column) the answer."""
        return [self._answer(file) for file in _files(model_input)]

    def _answer(self, file: str | Path | bytes) -> dict[str, Any]:
        study = read_study(file) if isinstance(file, bytes) else read_study_at(Path(file))
        result = answer(study, self._model).result
        return {
            "label": result.label,
            "confidence": result.confidence,
            "probabilities": probabilities_of(result),
            "warnings": list(result.warnings),
        } | result.details()


def _files(model_input: Any) -> list[str | Path | bytes]:
    if isinstance(model_input, str | Path | bytes):
        return [model_input]
    if hasattr(model_input, "iloc"):
        return list(model_input.iloc[:, 0])
    return list(model_input)


def _load_pyfunc(path: str) -> BundleModel:
    """Called by MLflow, which fixes the name."""
    return BundleModel(path)
