"""Compile a pipeline for a cluster, run it on this machine, or submit it to Kubeflow.

    python -m pipelines compile echo-view                 # writes build/pipelines/echo-view.yaml
    python -m pipelines run echo-view --root build/work   # every step a process of this machine
    python -m pipelines submit echo-view --host https://kubeflow.example.org

A run resumes by itself: each step answers from its finished folder under the root, whatever KFP's own cache says. It
registers its model in the MLflow of MLFLOW_TRACKING_URI, or in one of its own under the root.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pipelines
from echoplane.errors import ConfigError, EchoplaneError, unexpected
from echoplane.stages.outputs import Promotion
from echoplane.stages.stage import Manifest, ensure_folder

BUILD = Path("build/pipelines")
LOCAL_ROOT = "build/work"
PREVIOUS_NAMES = {
    "batch_part_size": "part-size",
    "batch_study_timeout_s": "study-timeout-s",
    "data_labels": "labels",
    "data_public": "public",
    "data_site": "site",
    "data_source": "source",
    "data_split": "split",
    "deid_key_file": "key-file",
    "model_precision": "precision",
    "model_runtime": "runtime",
    "model_task": "task",
    "serve_precision": "precision",
    "serve_runtime": "runtime",
    "synthetic_frames": "frames",
    "synthetic_patients": "patients",
    "synthetic_seed": "seed",
    "train_augmentation": "augmentation",
    "train_gpu": "gpu",
    "train_network": "network",
    "train_ray_pods": "cluster",
    "train_settings": "training",
    "train_workers": "workers",
}
"""Options of version 0.1 by the parameter that replaced them; still accepted in this version."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m pipelines", description="Compile, run or submit a pipeline.")
    parser.add_argument("action", choices=["compile", "run", "submit"])
    parser.add_argument("name", choices=pipelines.NAMES)
    given = sys.argv[1:] if arguments is None else arguments
    asked, rest = parser.parse_args(given[:2]), given[2:]  # all that follows, --help too, is for the pipeline
    action = {"compile": compile_package, "run": run_here, "submit": submit}[asked.action]
    try:
        return action(asked.name, rest)
    except EchoplaneError as error:
        print(f"{asked.name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{asked.name}: stopped; the same call goes on from the last finished step.", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"{asked.name}: {unexpected(error)}", file=sys.stderr)
        return 1


def compile_package(name: str, arguments: list[str]) -> int:
    """Writes the package that Kubeflow's UI and client upload."""
    from kfp.compiler import Compiler

    argparse.ArgumentParser(f"python -m pipelines compile {name}").parse_args(arguments)
    path = BUILD / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(pipelines.by_name(name), str(path))
    print(path)
    return 0


def run_here(name: str, arguments: list[str]) -> int:
    """Runs the pipeline on this machine and prints the path of each step's manifest."""
    from pipelines import local

    values = _parameters(name, "run", arguments, {"root": LOCAL_ROOT})
    with _registry(ensure_folder(Path(values["root"]), "`root`") / "mlflow"):
        local.run(name, values)
    found = local.manifests(Path(values["root"]))
    for stage, manifest in found.items():
        print(f"{stage}: {manifest.path / 'manifest.json'}")
    for line in _decision(found):
        print(line)
    return 0


def _decision(found: Mapping[str, Manifest]) -> Iterator[str]:
    """Yields the promotion decision and its reasons."""
    if "promote" in found:
        decision = found["promote"].stated(Promotion)
        passed = "The gate passed the model: it "
        passed += "waits as challenger for `echoplane approve`." if decision.waits else "is the champion."
        yield passed if decision.passed else "The gate refused the model:"
        yield from (f"  {reason}" for reason in decision.refused_by)


@contextlib.contextmanager
def _registry(folder: Path) -> Iterator[None]:
    """Starts an MLflow server for the run, if MLFLOW_TRACKING_URI names none."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        yield
        return
    from echoplane.adapters.local_mlflow import start_server, stop_server

    server, os.environ["MLFLOW_TRACKING_URI"] = start_server(folder)
    try:
        yield
    finally:
        stop_server(server)
        del os.environ["MLFLOW_TRACKING_URI"]


def submit(name: str, arguments: list[str]) -> int:
    """Starts a run on the Kubeflow at --host; prints the run's id."""
    from kfp import Client

    parser = _parser(name, "submit", {})
    parser.add_argument("--host", required=True, help="address of Kubeflow Pipelines")
    values = vars(parser.parse_args(arguments))
    client = Client(host=values.pop("host"))
    print(client.create_run_from_pipeline_func(pipelines.by_name(name), arguments=_typed(name, values)).run_id)
    return 0


def _parameters(name: str, action: str, arguments: list[str], defaults: dict[str, Any]) -> dict[str, Any]:
    return _typed(name, defaults | vars(_parser(name, action, defaults).parse_args(arguments)))


def _parser(name: str, action: str, defaults: dict[str, Any]) -> argparse.ArgumentParser:
    """Returns a parser with one option per parameter of the pipeline."""
    parser = argparse.ArgumentParser(f"python -m pipelines {action} {name}", allow_abbrev=False)
    for parameter, spec in pipelines.by_name(name).component_spec.inputs.items():
        text = f"{spec.description} Default {json.dumps(defaults.get(parameter, spec.default))}".replace("%", "%%")
        names = [parameter.replace("_", "-"), *filter(None, [PREVIOUS_NAMES.get(parameter)])]
        options = [f"--{name}" for name in names]
        parser.add_argument(*options, dest=parameter, default=argparse.SUPPRESS, help=text)
    return parser


def _typed(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Converts strings of the command line to the types that KFP expects; text is kept as it is."""
    inputs = pipelines.by_name(name).component_spec.inputs
    return {key: value if inputs[key].type == "String" else _json(key, value) for key, value in values.items()}


def _json(parameter: str, value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        raise ConfigError(f"--{parameter.replace('_', '-')} must be JSON; `--help` shows its default.") from None


if __name__ == "__main__":
    sys.exit(main())
