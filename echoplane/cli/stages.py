"""The stages as subcommands: reads the config from the options, runs the stage and prints its result."""

import argparse
import importlib
import json
from pathlib import Path

from echoplane.cli.command import empty, progress_apart, report
from echoplane.errors import ConfigError

FIND_PATIENT = ("find-patient", "forget")
"""Names of the subcommand; the second is the one of version 0.1.0, accepted for one more version."""


def run_stage(name: str, parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Runs the stage `name` with a config from the options, and prints its result."""
    from echoplane.stages.options import add_fields, config_of

    stage = importlib.import_module(f"echoplane.stages.{name}")
    if name == "train":
        parser.add_argument("task", metavar="TASK", help="task that the samples were labelled for")
    add_fields(parser, stage.Config, {})
    values = vars(parser.parse_args(arguments))
    as_json, task = values.pop("json"), values.pop("task") if name == "train" else None
    with progress_apart(as_json):
        if name == "promote":
            _ensure_own_keys()
        config = config_of(stage.Config, values)
        if task:
            _check_task(config.samples, task)
        manifest = stage.run(config)
    path = str(manifest.path / "manifest.json")
    return report(name, manifest.counts, as_json, set_aside=manifest.set_aside, manifest=path)


def _ensure_own_keys() -> None:
    """Makes the user's signing key at the first promotion."""
    from echoplane.signing import ensure_own_keys

    ensure_own_keys()


def _check_task(samples: str, task: str) -> None:
    """Raises ConfigError unless the samples are labelled for `task`, which the user names to confirm it."""
    from echoplane.stages.outputs import Samples
    from echoplane.stages.stage import Manifest

    found = Manifest.read(samples, "`samples`").stated(Samples).task
    if found != task:
        raise ConfigError(f"the samples are labelled for {found}, not for {task}.")


def run_phantom(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    from echoplane.stages import phantom
    from echoplane.stages.options import add_fields, config_of

    kinds = "echo, twelve ultrasound clips a patient as DICOM; cmr, three cines a patient as NIfTI with exact masks"
    parser.add_argument("kind", choices=["echo", "cmr"], help=f"what to make: {kinds}")
    parser.add_argument("dst", metavar="DST", help="a new folder for the files")
    add_fields(parser, phantom.Config, {"root": "", "source": "", "kind": ""})
    values = vars(parser.parse_args(arguments))
    as_json, folder = values.pop("json"), Path(values.pop("dst"))
    fill = {"echo": phantom.fill, "cmr": phantom.fill_cmr}[values["kind"]]
    with progress_apart(as_json):
        made = fill(empty(folder), config_of(phantom.Config, values | {"root": str(folder)}))
    return report("phantom", made.counts, as_json, folder=str(folder))


def run_dataset(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    if arguments[:1] and arguments[0] in FIND_PATIENT:
        return run_find_patient(arguments[1:])
    parser.epilog = f"{parser.epilog}\n  echoplane dataset find-patient P-ABCDEFGHIJKLMNOP --root work"
    return run_stage("dataset", parser, arguments)


def run_find_patient(arguments: list[str]) -> int:
    """Lists everything that learned from a patient."""
    from echoplane.stages import find_patient

    parser = argparse.ArgumentParser(
        "echoplane dataset find-patient",
        description="List the files, datasets, trainings and bundles that know a patient. Nothing is removed.",
        epilog="example: echoplane dataset find-patient P-ABCDEFGHIJKLMNOP --root work",
    )
    parser.add_argument("pseudonym", metavar="PSEUDONYM", help="as `echoplane deid pseudonym` prints it")
    parser.add_argument("--root", type=Path, required=True, help="the folder of the stages")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    found = find_patient.run(asked.root, asked.pseudonym).model_dump()
    lines = [f"{kind[:-1]}: {path}" for kind, paths in found.items() for path in paths]
    print(json.dumps(found) if asked.json else "\n".join(lines) or "nothing below this root knows the pseudonym")
    return 0
