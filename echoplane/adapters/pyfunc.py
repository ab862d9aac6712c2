"""A bundle as an MLflow pyfunc, loaded by module name; nothing is pickled."""

from pathlib import Path
from typing import Any

from echoplane import runtimes
from echoplane.runtimes import InferenceSettings, answer
from echoplane.study.reading import read_study, read_study_at
from echoplane.tasks import probabilities_of


class BundleModel:
    """The model that `mlflow.pyfunc.load_model` wraps, in float32, which gives the same results on every processor."""

    def __init__(self, folder: str | Path) -> None:
        self._model = runtimes.open(folder, InferenceSettings(precision="f32"))

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Returns the answer to each study. A study is a path or the bytes of a file; `model_input` is one study, a
        list, or a data frame whose first column holds studies."""
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
    """Loads the model; MLflow calls this function and prescribes its name."""
    return BundleModel(path)
