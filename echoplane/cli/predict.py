"""`echoplane predict`: a model's answers to files, each as it comes."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from echoplane.cli.command import SOME_INPUTS_REFUSED
from echoplane.errors import ConfigError, InputError


def run_predict(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Each file's answer as it comes; a file that can't be answered says why and the next one follows."""
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="a DICOM clip")
    parser.add_argument("--bundle", metavar="DIR", help="a model's bundle; without it, MLflow's champion answers")
    parser.add_argument("--task", default="echo-view-video", help="whose champion answers. Default echo-view-video")
    parser.add_argument(
        "--precision", default="", help="auto, f32 or bf16. Left out: what the champion was evaluated at; f32 for DIR"
    )
    asked = parser.parse_args(arguments)
    model = _model(asked)
    answered = [_answer_file(path, number, asked, model) for number, path in enumerate(asked.files, 1)]
    return 0 if all(answered) else SOME_INPUTS_REFUSED


def _model(asked: argparse.Namespace) -> tuple[Any, Any]:
    """The bundle and its runtime, checked on its own example before it answers anybody."""
    from echoplane import bundle, runtimes

    with tempfile.TemporaryDirectory() as folder:
        read, evaluated = (
            (bundle.read(asked.bundle), {}) if asked.bundle else _champion(asked.task, Path(folder) / "bundle")
        )
        runtime = runtimes.load(
            read,
            precision=asked.precision or evaluated.get("precision", "f32"),
            runtime=evaluated.get("runtime", "openvino"),
            threads=int(evaluated.get("threads", runtimes.DEFAULT_THREADS)),
        )
        runtimes.check_golden(read, runtime)
    return read, runtime


def _champion(task: str, folder: Path) -> tuple[Any, Mapping[str, str]]:
    """The bundle, and the tags that say what it was evaluated on."""
    from echoplane.adapters.registry import Registry

    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        raise ConfigError("give --bundle DIR, or MLFLOW_TRACKING_URI for the registry whose champion shall answer.")
    registry = Registry(address)
    version = registry.champion(task)
    if version is None:
        raise ConfigError(f"the registry has no champion for {task}; promote a bundle, or give --bundle DIR.")
    return registry.download(version, folder), version.tags


def _answer_file(path: Path, number: int, asked: argparse.Namespace, model: tuple[Any, Any]) -> bool:
    from echoplane.runtimes import answer
    from echoplane.study.reading import read_study

    try:
        found = answer(read_study(path.read_bytes()), *model)
    except (InputError, OSError) as error:
        why = str(error) if isinstance(error, InputError) else f"can't be read ({error.strerror})."
        _print_refusal(path, number, why, asked)
        return False
    _print_answer(path, found, asked, model)
    return True


def _print_answer(path: Path, found: Any, asked: argparse.Namespace, model: tuple[Any, Any]) -> None:
    (bundle, runtime), result, total_ms = model, found.result, sum(found.timings_ms.values())
    if asked.json:
        answer = {"file": str(path), "task": bundle.spec.task, "bundle": bundle.id}
        answer |= {"runtime": runtime.name, "precision": runtime.precision}
        answer |= {"label": result.label, "confidence": result.confidence, "probabilities": result.probabilities}
        print(
            json.dumps(answer | {"warnings": list(result.warnings), "timings_ms": found.timings_ms} | result.details()),
            flush=True,
        )
        return
    titles = {label.name: label.title for label in bundle.spec.labels}
    said = f"{result.label}  {titles.get(result.label, '')}" if result.label else "cannot tell"
    which = f"{path}: " if len(asked.files) > 1 else ""
    print(
        f"{which}{said}  {result.confidence:.2f}   {bundle.spec.task} {bundle.id[:12]}   {total_ms:.0f} ms", flush=True
    )
    for warning in result.warnings:
        print(f"  warning: {warning}")


def _print_refusal(path: Path, number: int, why: str, asked: argparse.Namespace) -> None:
    """Files are numbered on standard error, which is kept in logs: a file's name may be a patient's."""
    if asked.json:
        print(json.dumps({"file": str(path), "error": why}), flush=True)
    print(f"echoplane predict: file {number} of {len(asked.files)}: {why}", file=sys.stderr, flush=True)
