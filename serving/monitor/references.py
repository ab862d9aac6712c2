"""References for drift: found by bundle among evaluations and the results of `echoplane drift-reference`."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from echoplane.bundle.accuracy_model import AccuracyModel
from echoplane.bundle.spec import ACCURACY
from echoplane.errors import EchoplaneError
from echoplane.monitoring.reference import Reference
from echoplane.stages.drift import read_reference
from echoplane.stages.drift_reference import RECORD, Accepted, read_accepted
from echoplane.stages.outputs import Evaluation
from echoplane.stages.stage import Manifest

log = logging.getLogger("echoplane.monitor")


def reference_of_bundle(evaluations: str, bundle: str) -> Reference:
    """Returns the newest reference of `bundle` below the folder `evaluations`: its evaluation, or accepted studies.

    Raises ValueError with the reason if there is none that can be used.
    """
    if not evaluations:
        raise ValueError("ECHOPLANE_EVALUATIONS is not set; it names the folder of the results of `evaluate`.")
    if not Path(evaluations).is_dir():
        raise ValueError(f"ECHOPLANE_EVALUATIONS: the folder {evaluations} does not exist.")
    found = [(path, kind) for kind in KINDS for path in Path(evaluations).glob(kind.pattern)]
    for path, kind in sorted(found, key=lambda one: -one[0].stat().st_mtime):
        if kind.bundle(path) == bundle:
            try:
                reference = kind.read(path.parent)
                return replace(reference, accuracy_model=_accuracy_model(path.parent / ACCURACY))
            except (EchoplaneError, OSError) as error:
                raise ValueError(str(error)) from None
    raise ValueError(
        "below ECHOPLANE_EVALUATIONS is neither an evaluation of this bundle nor a reference (`echoplane "
        "drift-reference`)."
    )


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


def _accepted_bundle(record: Path) -> str:
    try:
        return Accepted.read(record.parent).bundle_id
    except EchoplaneError:
        return ""


def _bundle(manifest: Path) -> str:
    try:
        return Manifest.read(manifest).stated(Evaluation).bundle_id
    except EchoplaneError:
        return ""


@dataclass(frozen=True)
class _Kind:
    """One kind of reference: where it lies, how its bundle is told, and how its folder is read."""

    pattern: str
    bundle: Callable[[Path], str]
    read: Callable[[Path], Reference]


KINDS = (
    _Kind("*/manifest.json", _bundle, lambda folder: read_reference(folder / "scores.parquet")),
    _Kind(f"*/{RECORD}", _accepted_bundle, read_accepted),
)
