"""References for drift: found by bundle among the results of the stage `evaluate`."""

import logging
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from echoplane.bundle.accuracy_model import AccuracyModel
from echoplane.bundle.spec import ACCURACY
from echoplane.errors import EchoplaneError
from echoplane.monitoring.reference import Reference
from echoplane.stages.drift import read_reference
from echoplane.stages.outputs import Evaluation
from echoplane.stages.stage import Manifest

log = logging.getLogger("echoplane.monitor")


def reference_of_bundle(evaluations: str, bundle: str) -> Reference:
    """Returns the reference from the newest evaluation of `bundle` below the folder `evaluations`.

    Raises ValueError with the reason if there is none that can be used.
    """
    if not evaluations:
        raise ValueError("ECHOPLANE_EVALUATIONS is not set; it names the folder of the results of `evaluate`.")
    if not Path(evaluations).is_dir():
        raise ValueError(f"ECHOPLANE_EVALUATIONS: the folder {evaluations} does not exist.")
    paths = sorted(Path(evaluations).glob("*/manifest.json"), key=lambda path: -path.stat().st_mtime)
    for path in paths:
        if _bundle(path) == bundle:
            try:
                reference = read_reference(path.parent / "scores.parquet")
                return replace(reference, accuracy_model=_accuracy_model(path.parent / ACCURACY))
            except (EchoplaneError, OSError) as error:
                raise ValueError(str(error)) from None
    raise ValueError("no evaluation of this bundle is below ECHOPLANE_EVALUATIONS.")


def _accuracy_model(path: Path) -> AccuracyModel | None:
    """Returns the estimate of accuracy beside the scores; None if there is none, or if it cannot be read, because drift
    is watched without it."""
    if not path.is_file():
        return None
    try:
        return AccuracyModel.model_validate_json(path.read_bytes())
    except ValidationError:
        log.warning("%s is not of schema 1: accuracy is not estimated; evaluate the bundle again.", ACCURACY)
        return None


def _bundle(manifest: Path) -> str:
    try:
        return Manifest.read(manifest).stated(Evaluation).bundle_id
    except EchoplaneError:
        return ""
