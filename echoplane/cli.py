"""The command `echoplane`: a thin call of the stages, one subcommand each, and `predict`.

Options are the fields of the stage's config and their help is the line under each field, so that the two can't part.
A subcommand's module is imported when it is asked for: `echoplane --help` stays quick. Exit codes: 0 done, 1 failed,
2 wrong call, 3 done but for some inputs that were quarantined or refused.
"""

import argparse
import contextlib
import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echoplane.errors import ConfigError, EchoplaneError, InputError

SOME_INPUTS_REFUSED = 3
INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One subcommand: what it does in a line, a call to copy, and what runs it on the arguments after its name."""

    title: str
    example: str
    run: Callable[[str, list[str]], int]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code. An error is one line on standard error and never names a patient."""
    name, rest = _chosen(sys.argv[1:] if arguments is None else arguments)
    try:
        return COMMANDS[name].run(name, rest)
    except EchoplaneError as error:
        return _fail(name, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(name, "stopped; the same call goes on from the last finished part.", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read us is gone; without this, flushing at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("ECHOPLANE_DEBUG"):
            raise
        return _fail(name, _unexpected(error), 1)


def _chosen(arguments: list[str]) -> tuple[str, list[str]]:
    """The subcommand and what follows it; ends with help or version where that was asked."""
    from echoplane import __version__

    width = max(map(len, COMMANDS)) + 2
    listed = "\n".join(f"  {name:{width}}{command.title}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "echoplane",
        usage="echoplane COMMAND ...",
        description="De-identify, train, evaluate and serve cardiac imaging models. Research use only.",
        epilog=f"commands:\n{listed}\n\n`echoplane COMMAND --help` shows a command's options and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS, metavar="COMMAND")
    chosen = parser.parse_args(arguments[:1])
    return chosen.command, arguments[1:]


def _fail(name: str, message: str, code: int) -> int:
    print(f"echoplane {name}: {message}", file=sys.stderr)
    return code


def _unexpected(error: Exception) -> str:
    """Where it happened, not what was said there: a library's message may quote a file."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    return f"failed unexpectedly ({type(error).__name__} at {place}); ECHOPLANE_DEBUG=1 shows the whole traceback."


# Calling a stage


def _parser(name: str, usage: str = "") -> argparse.ArgumentParser:
    command = COMMANDS[name]
    parser = argparse.ArgumentParser(
        f"echoplane {name}",
        usage=usage or None,
        description=f"{command.title[0].upper()}{command.title[1:]}.",
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to standard error")
    return parser


def _run_stage(name: str, arguments: list[str]) -> int:
    """A stage by its name: config from the options, run, what it made."""
    from echoplane.stages.options import add_fields, config_of

    stage = importlib.import_module(f"echoplane.stages.{name}")
    parser = _parser(name)
    if name == "train":
        parser.add_argument("task", metavar="TASK", help="what the samples were labelled for: echo-view-video")
    add_fields(parser, stage.Config, {})
    values = vars(parser.parse_args(arguments))
    as_json, task = values.pop("json"), values.pop("task") if name == "train" else None
    with _progress_apart(as_json):
        config = config_of(stage.Config, values)
        if task:
            _check_task(config.samples, task)
        manifest = stage.run(config)
    return _report(name, manifest.counts, as_json, manifest=str(manifest.path / "manifest.json"))


def _check_task(samples: str, task: str) -> None:
    """What is trained is what the samples are labelled for; TASK says that this is what was meant."""
    from echoplane.stages.stage import Manifest

    found = json.loads((Manifest.read(samples).path / "dataset.json").read_bytes())["task"]
    if found != task:
        raise ConfigError(f"the samples are labelled for {found}, not for {task}.")


@contextlib.contextmanager
def _progress_apart(as_json: bool) -> Iterator[None]:
    """With JSON on standard output, progress goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def _report(name: str, counts: dict[str, Any], as_json: bool, **more: Any) -> int:
    if as_json:
        print(json.dumps({"stage": name, "counts": counts} | more))
    else:
        plain = {key: value for key, value in counts.items() if isinstance(value, int | float | str)}
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in plain.items())}")
        print(*more.values(), sep="\n")
    return SOME_INPUTS_REFUSED if any(counts.get(key) for key in ("quarantined", "refused")) else 0


def _run_phantom(name: str, arguments: list[str]) -> int:
    from echoplane.stages import phantom
    from echoplane.stages.options import add_fields, config_of

    parser = _parser(name)
    kinds = "echo, twelve ultrasound clips a patient as DICOM; cmr, three cines a patient as NIfTI with exact masks"
    parser.add_argument("kind", choices=["echo", "cmr"], help=f"what to make: {kinds}")
    parser.add_argument("dst", metavar="DST", help="a new folder for the files")
    add_fields(parser, phantom.Config, {"root": "", "source": ""})
    values = vars(parser.parse_args(arguments))
    as_json, folder = values.pop("json"), Path(values.pop("dst"))
    fill = {"echo": phantom.fill, "cmr": phantom.fill_cmr}[values.pop("kind")]
    with _progress_apart(as_json):
        counts = fill(_empty(folder), config_of(phantom.Config, values | {"root": str(folder)}))
    return _report(name, counts, as_json, folder=str(folder))


def _run_deid(name: str, arguments: list[str]) -> int:
    if arguments[:1] in (["accept"], ["pseudonym"]):
        return {"accept": _run_accept, "pseudonym": _run_pseudonym}[arguments[0]](
            f"{name} {arguments[0]}", arguments[1:]
        )
    from echoplane.stages import deid
    from echoplane.stages.options import add_fields, config_of

    parser = _parser(name, "echoplane deid SRC DST ... | deid accept DIGEST DST ... | deid pseudonym ...")
    parser.add_argument("source", metavar="SRC", help="the folder of your DICOM, with its subfolders")
    parser.add_argument("dst", metavar="DST", help="a new folder: dicom, quarantine (still patients'), report.html")
    add_fields(parser, deid.Config, {"root": "", "studies": "", "source": ""})
    values = vars(parser.parse_args(arguments))
    as_json, folder = values.pop("json"), Path(values.pop("dst"))
    with _progress_apart(as_json):
        manifest = deid.into(folder, config_of(deid.Config, values | {"root": str(folder)}))
    return _report(name, manifest.counts, as_json, manifest=str(folder / "manifest.json"))


def _key_parser(name: str, title: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"echoplane {name}", description=title, epilog=f"example: {example}")
    parser.add_argument("--key-file", type=Path, help="the key of the run; else the variable ECHOPLANE_DEID_KEY")
    return parser


def _run_accept(name: str, arguments: list[str]) -> int:
    """Release one quarantined file whose pixels a person has looked at."""
    from echoplane.deid import Policy, accept, load_key

    title = "Release a quarantined file after a person has looked at its pixels; the header's rules all hold."
    parser = _key_parser(name, title, "echoplane deid accept 5d41...c592 exams-deid --person 'R. Reviewer'")
    parser.add_argument("digest", metavar="DIGEST", help="the file's keyed digest, as the report lists it")
    parser.add_argument("dst", metavar="DST", type=Path, help="the folder that `echoplane deid SRC DST` wrote")
    parser.add_argument("--person", required=True, help="who looked; stands in DST/audit.jsonl")
    parser.add_argument("--policy", default="{}", help="the policy of the run, as JSON. Default the standard one")
    asked = parser.parse_args(arguments)
    policy = Policy.model_validate_json(asked.policy)
    outcome = accept(asked.digest, asked.dst, load_key(asked.key_file), policy, person=asked.person)
    print(outcome.sentence if outcome.reason else f"accepted: {asked.dst / str(outcome.output)}")
    return SOME_INPUTS_REFUSED if outcome.reason else 0


def _run_pseudonym(name: str, arguments: list[str]) -> int:
    """The pseudonym of an id on standard input: an argument would stay in the shell's history."""
    from echoplane.deid import load_key

    title = "Print the pseudonym of a patient id, which is read from standard input."
    parser = _key_parser(
        name, title, "echoplane deid pseudonym --key-file deid.key  (then type the id and press enter)"
    )
    key, patient_id = load_key(parser.parse_args(arguments).key_file), sys.stdin.readline().strip()
    if not patient_id:
        raise ConfigError("no patient id came on standard input.")
    print(key.pseudonym(patient_id))
    return 0


def _run_dataset(name: str, arguments: list[str]) -> int:
    return _run_forget(f"{name} forget", arguments[1:]) if arguments[:1] == ["forget"] else _run_stage(name, arguments)


def _run_forget(name: str, arguments: list[str]) -> int:
    """List what learned from a patient."""
    from echoplane.stages import forget

    parser = argparse.ArgumentParser(
        f"echoplane {name}",
        description="List the files, datasets, trainings and bundles that know a patient. Nothing is removed.",
        epilog="example: echoplane dataset forget P-ABCDEFGHIJKLMNOP --root work",
    )
    parser.add_argument("pseudonym", metavar="PSEUDONYM", help="as `echoplane deid pseudonym` prints it")
    parser.add_argument("--root", type=Path, required=True, help="the folder of the stages")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    found = forget.run(asked.root, asked.pseudonym).model_dump()
    lines = [f"{kind[:-1]}: {path}" for kind, paths in found.items() for path in paths]
    print(json.dumps(found) if asked.json else "\n".join(lines) or "nothing below this root knows the pseudonym")
    return 0


def _empty(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("DST is there and not empty; give a new folder, or remove what is in it.")
    return folder


# Answering files


def _run_predict(name: str, arguments: list[str]) -> int:
    """Each file's answer as it comes; a file that can't be answered says why and the next one follows."""
    parser = _parser(name)
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="a DICOM clip")
    parser.add_argument("--bundle", metavar="DIR", help="a model's bundle; without it, MLflow's champion answers")
    parser.add_argument("--task", default="echo-view-video", help="whose champion answers. Default echo-view-video")
    parser.add_argument("--precision", default="auto", help="auto, f32 or bf16. Default auto")
    asked = parser.parse_args(arguments)
    model = _model(asked)
    answered = [_answer_file(path, number, asked, model) for number, path in enumerate(asked.files, 1)]
    return 0 if all(answered) else SOME_INPUTS_REFUSED


def _model(asked: argparse.Namespace) -> tuple[Any, Any]:
    """The bundle and its runtime, checked on its own example before it answers anybody."""
    from echoplane import bundle, runtimes

    with tempfile.TemporaryDirectory() as folder:
        read = bundle.read(asked.bundle) if asked.bundle else _champion(asked.task, Path(folder) / "bundle")
        runtime = runtimes.load(read, precision=asked.precision)
        runtimes.check_golden(read, runtime)
    return read, runtime


def _champion(task: str, folder: Path) -> Any:
    from echoplane.adapters.registry import Registry

    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        raise ConfigError("give --bundle DIR, or MLFLOW_TRACKING_URI for the registry whose champion shall answer.")
    registry = Registry(address)
    version = registry.champion(task)
    if version is None:
        raise ConfigError(f"the registry has no champion for {task}; promote a bundle, or give --bundle DIR.")
    return registry.download(version, folder)


def _answer_file(path: Path, number: int, asked: argparse.Namespace, model: tuple[Any, Any]) -> bool:
    from echoplane.runtimes import answer
    from echoplane.study.reading import read_study

    try:
        found = answer(read_study(path.read_bytes()), *model)
    except (InputError, OSError) as error:
        why = str(error) if isinstance(error, InputError) else f"can't be read ({error.strerror})."
        _print_refusal(path, number, why, asked)
        return False
    _print_answer(path, found, asked, model[0])
    return True


def _print_answer(path: Path, found: Any, asked: argparse.Namespace, bundle: Any) -> None:
    result, total_ms = found.result, sum(found.timings_ms.values())
    if asked.json:
        answer = {"file": str(path), "task": bundle.spec.task, "bundle": bundle.id}
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


def _run_measure(name: str, arguments: list[str]) -> int:
    """Figures, masks and a report of one cine; a cine that can't be measured says why."""
    from echoplane.stages import measure
    from echoplane.stages.options import add_fields, config_of

    parser = _parser(name)
    add_fields(parser, measure.Config, {"cine": "CINE"})
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    with _progress_apart(as_json):
        found = measure.run(config_of(measure.Config, values))
    if as_json:
        print(json.dumps(found))
    else:
        _print_measures(found, values["out"])
    return 0


def _print_measures(found: dict[str, Any], out: str) -> None:
    for header, value in found["by_header"].items():
        if value is not None:
            print(f"{header:14}{value:8.1f}")
    for flag in found["flags"]:
        print(f"flag: {flag['sentence']}")
    for warning in found["warnings"]:
        print(f"warning: {warning}")
    print(f"{out}/report.html")


COMMANDS: dict[str, Command] = {
    "phantom": Command(
        "make synthetic patients as DICOM, with invented names",
        "echoplane phantom echo phantoms --patients 2",
        _run_phantom,
    ),
    "deid": Command(
        "remove the patient from a folder of DICOM",
        "echoplane deid exams exams-deid --key-file deid.key --labels labels.csv",
        _run_deid,
    ),
    "dataset": Command(
        "catalogue de-identified studies, split them by patient, make shards",
        "echoplane dataset --root work --studies exams-deid/manifest.json",
        _run_dataset,
    ),
    "train": Command(
        "train a task's network with Ray",
        "echoplane train echo-view-video --root work --samples work/dataset/1f0c/manifest.json",
        _run_stage,
    ),
    "export": Command(
        "calibrate a trained network and seal it into a bundle",
        "echoplane export --root work --samples work/dataset/1f0c/manifest.json "
        "--checkpoint work/train/2b7e/manifest.json",
        _run_stage,
    ),
    "evaluate": Command(
        "run a bundle on the unseen patients",
        "echoplane evaluate --root work --studies exams-deid/manifest.json --samples work/dataset/1f0c/manifest.json "
        "--bundle work/export/77aa/manifest.json",
        _run_stage,
    ),
    "promote": Command(
        "register a bundle in MLflow and let the gate decide whether it serves",
        "echoplane promote --root work --bundle work/export/77aa/manifest.json "
        "--evaluation work/evaluate/90c1/manifest.json --tracking-uri http://127.0.0.1:5000",
        _run_stage,
    ),
    "predict": Command(
        "answer DICOM files with a bundle, or with MLflow's champion",
        "echoplane predict clip.dcm --bundle work/export/77aa",
        _run_predict,
    ),
    "measure": Command(
        "measure a cine MR: volumes, function, masks and a report",
        "echoplane measure cine.nii.gz --out measured",
        _run_measure,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
