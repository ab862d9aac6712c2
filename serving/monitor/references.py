"""References for drift: found by bundle among the results of the stage `evaluate`."""

from pathlib import Path

from echoplane.errors import EchoplaneError
from echoplane.monitoring.reference import Reference
from echoplane.stages.drift import read_reference
from echoplane.stages.outputs import Evaluation
from echoplane.stages.stage import Manifest


def reference_of_bundle(evaluations: str, bundle: str) -> Reference:
    """Returns the reference from the newest evaluation of `bundle` below the folder `evaluations`.

    Raises ValueError with the reason if there is none that can be used.
    """
    paths = sorted(Path(evaluations).glob("*/manifest.json"), key=lambda path: -path.stat().st_mtime)
    for path in paths if evaluations else []:
        if _bundle(path) == bundle:
            try:
                return read_reference(path.parent / "scores.parquet")
            except (EchoplaneError, OSError) as error:
                raise ValueError(str(error)) from None
    raise ValueError("no evaluation of this bundle is below ECHOPLANE_EVALUATIONS.")


def _bundle(manifest: Path) -> str:
    try:
        return Manifest.read(manifest).stated(Evaluation).bundle_id
    except EchoplaneError:
        return ""
