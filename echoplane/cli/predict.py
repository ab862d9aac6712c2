"""`echoplane predict`: prints a model's answer to each file."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from echoplane.cli.command import SOME_INPUTS_REFUSED
from echoplane.errors import ConfigError, InputError, Unsupported

FOLDER = (
    "this is a folder, and `predict` answers files: `echoplane batch` answers a folder of studies, "
    "`echoplane measure` a folder that is one cine MR."
)


def run_predict(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Prints each file's answer as soon as it is known; a file that cannot be answered gets a reason, and the next
    follows."""
    from echoplane.runtimes import Precision

    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="a DICOM clip")
    parser.add_argument("--bundle", metavar="DIR", help="a model's bundle; without it, MLflow's champion answers")
    parser.add_argument("--task", default="echo-view-video", help="whose champion answers. Default echo-view-video")
    parser.add_argument(
        "--precision",
        default="",
        choices=["", *get_args(Precision)],
        metavar="PRECISION",
        help="auto, f32 or bf16. Left out: what the champion was evaluated at; f32 for DIR",
    )
    parser.add_argument(
        "--label-shares",
        metavar="JSON",
        help="how often each label occurs at this site, as {LABEL: SHARE} with a sum of 1. Left out: as in training",
    )
    asked = parser.parse_args(arguments)
    model = _model(asked)
    answered = [_answer_file(path, number, asked, model) for number, path in enumerate(asked.files, 1)]
    return 0 if all(answered) else SOME_INPUTS_REFUSED


def _model(asked: argparse.Namespace) -> Any:
    """Returns the model, which has passed its golden check."""
    from echoplane import bundle, runtimes
    from echoplane.tasks.label_shares import read_shares

    shares = None if asked.label_shares is None else read_shares(asked.label_shares)
    with tempfile.TemporaryDirectory() as folder:
        if asked.bundle:
            read, settings = bundle.read(asked.bundle), runtimes.InferenceSettings(precision="f32")
        else:
            read, tags = _champion(asked.task, Path(folder) / "bundle")
            settings = runtimes.recorded_settings(tags)
        return runtimes.declared(runtimes.open(read, settings.overridden(precision=asked.precision)), shares)


def _champion(task: str, folder: Path) -> tuple[Any, Mapping[str, str]]:
    """Returns the champion's bundle, and the tags that record its inference settings."""
    from echoplane.adapters.registry import CHAMPION, Registry
    from echoplane.adapters.trust import ModelTrust

    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        raise ConfigError("give --bundle DIR, or MLFLOW_TRACKING_URI for the registry whose champion shall answer.")
    registry = Registry(address)
    version = registry.champion(task)
    if version is None:
        raise ConfigError(f"the registry has no champion for {task}; promote a bundle, or give --bundle DIR.")
    trust = ModelTrust.from_environment()
    trust.check_evidence(registry, version, trust.check(version, CHAMPION))
    return registry.download(version, folder), version.tags


def _answer_file(path: Path, number: int, asked: argparse.Namespace, model: Any) -> bool:
    from echoplane.runtimes import answer
    from echoplane.study.reading import read_study

    try:
        if path.is_dir():
            raise Unsupported(FOLDER)
        found = answer(read_study(path.read_bytes()), model)
    except (InputError, OSError) as error:
        why = str(error) if isinstance(error, InputError) else f"can't be read ({error.strerror})."
        _print_refusal(path, number, why, asked)
        return False
    _print_answer(path, found, asked, model)
    return True


def _print_answer(path: Path, found: Any, asked: argparse.Namespace, model: Any) -> None:
    from echoplane.tasks import Measurement, probabilities_of

    bundle, settings = model.bundle, model.runtime.settings
    result, total_ms = found.result, sum(found.timings_ms.values())
    if asked.json:
        answer = {"file": str(path), "task": bundle.spec.task, "bundle": bundle.id}
        answer |= {"runtime": settings.runtime, "precision": settings.precision}
        answer |= {"label": result.label, "confidence": result.confidence, "probabilities": probabilities_of(result)}
        print(
            json.dumps(answer | {"warnings": list(result.warnings), "timings_ms": found.timings_ms} | result.details()),
            flush=True,
        )
        return
    titles = {label.name: label.title for label in bundle.spec.labels}
    said = f"{result.label}  {titles.get(result.label, '')}" if result.label else "cannot tell"
    if isinstance(result, Measurement):
        said += f"  {result.value:.4g} {result.unit}"
    sure = "" if result.confidence is None else f"  {result.confidence:.2f}"
    which = f"{path}: " if len(asked.files) > 1 else ""
    print(f"{which}{said}{sure}   {bundle.spec.task} {bundle.id[:12]}   {total_ms:.0f} ms", flush=True)
    for warning in result.warnings:
        print(f"  warning: {warning}")


def _print_refusal(path: Path, number: int, why: str, asked: argparse.Namespace) -> None:
    """Prints the reason; standard error, which logs keep, gets only the file's number, since its name may name a
    patient."""
    if asked.json:
        print(json.dumps({"file": str(path), "error": why}), flush=True)
    print(f"echoplane predict: file {number} of {len(asked.files)}: {why}", file=sys.stderr, flush=True)
