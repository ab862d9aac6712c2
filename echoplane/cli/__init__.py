"""The command `echoplane`: a thin wrapper of the stages, one subcommand each, `predict` and `measure`.

Options are the fields of the stage's config, and their help is the line under each field, so they cannot drift apart.
A subcommand imports what it needs when it runs, so that `echoplane --help` stays quick.

command   the class of a subcommand, and what all subcommands share
stages    dataset, train, export, evaluate, promote, phantom, batch; `dataset find-patient`
deid      deid, and the manual steps after it: accept, pseudonym
predict   answers to files
measure   measures of a cine MR
drift     comparison of studies in service with accepted ones, and the acceptance of some
label_queue studies that people should label, and their labels as feedback
retrain   decisions on requests for retraining
token     access tokens of the HTTP service
rollback  the champion of a task returns to the version before it
edge      roll-out of bundles to edge devices
approve   a challenger becomes champion, in the name of a person
why       why a model is live, or was
evidence  evidence pack of a release
keys      keys that sign promotions, and those that are trusted
audit     log of promotions, approvals, rollbacks and releases
"""

import argparse
import functools
import os
import sys

from echoplane.cli.approve import run_approve
from echoplane.cli.audit import run_audit
from echoplane.cli.command import Command
from echoplane.cli.deid import run_deid
from echoplane.cli.drift import run_drift, run_drift_reference
from echoplane.cli.edge import run_edge
from echoplane.cli.keys import run_keys
from echoplane.cli.label_queue import run_feedback, run_label_queue
from echoplane.cli.measure import run_measure
from echoplane.cli.predict import run_predict
from echoplane.cli.retrain import run_retrain
from echoplane.cli.rollback import run_rollback
from echoplane.cli.stages import run_dataset, run_phantom, run_stage
from echoplane.cli.token import run_token
from echoplane.cli.why import run_evidence, run_why
from echoplane.errors import EchoplaneError, unexpected

INTERRUPTED = 130
HELP = """
`echoplane COMMAND --help` shows a command's options and an example.

exit status: 0 done, 1 failed, 2 wrong call, 3 done but for some inputs that were quarantined or refused, 130 stopped.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code. An error is one line on standard error and names no patient."""
    name, rest = _chosen(sys.argv[1:] if arguments is None else arguments)
    try:
        command = COMMANDS[name]
        return command.run(command.parser(name), rest)
    except EchoplaneError as error:
        return _fail(name, str(error), error.exit_code)
    except KeyboardInterrupt:
        again = "goes on from the last finished part" if COMMANDS[name].goes_on else "begins anew"
        return _fail(name, f"stopped; the same call {again}.", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone; without this, flushing at exit would raise an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _fail(name, unexpected(error), 1)


def _chosen(arguments: list[str]) -> tuple[str, list[str]]:
    """Returns the subcommand and its arguments; prints help or version and exits if they are requested."""
    from echoplane import __version__

    width = max(map(len, COMMANDS)) + 2
    listed = "\n".join(f"  {name:{width}}{command.title}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "echoplane",
        usage="echoplane COMMAND ...",
        description="De-identify, train, evaluate and serve cardiac imaging models. Research use only.",
        epilog=f"commands:\n{listed}\n{HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS, metavar="COMMAND")
    chosen = parser.parse_args(arguments[:1])
    return chosen.command, arguments[1:]


def _fail(name: str, message: str, code: int) -> int:
    print(f"echoplane {name}: {message}", file=sys.stderr)
    return code


COMMANDS: dict[str, Command] = {
    "phantom": Command(
        "make synthetic patients: echo as DICOM with invented names, or cine MR as NIfTI",
        "echoplane phantom echo phantoms --patients 2",
        run_phantom,
        goes_on=False,
    ),
    "deid": Command(
        "remove the patient from a folder of DICOM",
        "echoplane deid exams exams-deid --key-file deid.key --labels labels.csv",
        run_deid,
    ),
    "dataset": Command(
        "catalogue de-identified studies, split them by patient, make shards; find-patient lists who learned from one",
        "echoplane dataset --root work --studies exams-deid/manifest.json",
        run_dataset,
    ),
    "train": Command(
        "train a task's network with Ray",
        "echoplane train echo-view-video --root work --samples work/dataset/1f0c/manifest.json",
        functools.partial(run_stage, "train"),
    ),
    "export": Command(
        "calibrate a trained network and seal it into a bundle",
        "echoplane export --root work --samples work/dataset/1f0c/manifest.json "
        "--checkpoint work/train/2b7e/manifest.json",
        functools.partial(run_stage, "export"),
    ),
    "evaluate": Command(
        "run a bundle on the unseen patients",
        "echoplane evaluate --root work --studies exams-deid/manifest.json --samples work/dataset/1f0c/manifest.json "
        "--bundle work/export/77aa/manifest.json",
        functools.partial(run_stage, "evaluate"),
    ),
    "promote": Command(
        "register a bundle in MLflow and let the gate decide whether it serves",
        "echoplane promote --root work --bundle work/export/77aa/manifest.json "
        "--evaluation work/evaluate/90c1/manifest.json --tracking-uri http://127.0.0.1:5000",
        functools.partial(run_stage, "promote"),
    ),
    "batch": Command(
        "answer a folder or a bucket of studies, and write one table",
        "echoplane batch --root work --source exams-deid/dicom --model work/export/77aa",
        functools.partial(run_stage, "batch"),
    ),
    "predict": Command(
        "answer DICOM files with a bundle, or with MLflow's champion",
        "echoplane predict clip.dcm --bundle work/export/77aa",
        run_predict,
        goes_on=False,
    ),
    "measure": Command(
        "measure a cine MR: volumes, function, masks and a report",
        "echoplane measure cine.nii.gz --out measured",
        run_measure,
        goes_on=False,
    ),
    "drift": Command(
        "tell whether studies in service still look like the accepted ones",
        "echoplane drift --evaluation work/evaluate/90c1/manifest.json --predictions predictions --out drift.html",
        run_drift,
        goes_on=False,
    ),
    "drift-reference": Command(
        "accept studies of some days as those that drift is judged against",
        "echoplane drift-reference --bundle models/echo-view-video --predictions predictions --since 2026-11-02 "
        "--until 2026-11-15 --by alex --out work/evaluate/november",
        run_drift_reference,
        goes_on=False,
    ),
    "label-queue": Command(
        "choose answered studies for people to label, into a CSV file",
        "echoplane label-queue echo-view-image --predictions predictions --count 50 --out queue.csv",
        run_label_queue,
        goes_on=False,
    ),
    "feedback": Command(
        "give the labels of a filled-in queue as feedback, from which the next retraining learns",
        "echoplane feedback queue.csv --predictions predictions --by alex",
        run_feedback,
        goes_on=False,
    ),
    "retrain": Command(
        "list, approve or reject requests for retraining, or stop the loop",
        "echoplane retrain approve 1f0c77aa --by alex --reason new-scanner --state monitor",
        run_retrain,
        goes_on=False,
    ),
    "token": Command(
        "make, list or remove access tokens of the HTTP service",
        "echoplane token new radiology --file tokens.json --site lakeside --roles predict,feedback",
        run_token,
        goes_on=False,
    ),
    "rollback": Command(
        "return a task's champion in MLflow to the version before it",
        "echoplane rollback echo-view-video --reason wrong-labels --tracking-uri http://127.0.0.1:5000",
        run_rollback,
        goes_on=False,
    ),
    "edge": Command(
        "publish a bundle to edge devices by rings, halt or resume it, see the fleet",
        "echoplane edge publish edge-repository --bundle work/export/77aa --ring first --keys keys --devices box-1",
        run_edge,
        goes_on=False,
    ),
    "approve": Command(
        "make a task's challenger its champion, if its shadow evidence meets the policy",
        "echoplane approve echo-view-video --by head-of-echo --prometheus http://prometheus:9090",
        run_approve,
        goes_on=False,
    ),
    "why": Command(
        "tell why a model is live, or was: data, training, evaluation, decision, who and when",
        "echoplane why echo-view-video --html why.html",
        run_why,
        goes_on=False,
    ),
    "evidence": Command(
        "make or verify the evidence pack of a release",
        "echoplane evidence verify echo-view-video-3.zip",
        run_evidence,
        goes_on=False,
    ),
    "keys": Command(
        "make the key that signs promotions; list, trust or revoke public keys",
        "echoplane keys revoke 1f0c2d3e4b5a6978 --reason rotated --trusted trusted-keys.json",
        run_keys,
        goes_on=False,
    ),
    "audit": Command(
        "show or verify the log of promotions, approvals, rollbacks and releases",
        "echoplane audit verify --log audit.jsonl",
        run_audit,
        goes_on=False,
    ),
}
