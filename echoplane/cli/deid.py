"""`echoplane deid`, and the manual steps after it: release a file, find a pseudonym."""

import argparse
import sys
from pathlib import Path

from echoplane.cli.command import SOME_INPUTS_REFUSED, progress_apart, report
from echoplane.errors import ConfigError


def run_deid(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    if arguments[:1] in (["accept"], ["pseudonym"]):
        return {"accept": run_accept, "pseudonym": run_pseudonym}[arguments[0]](arguments[1:])
    from echoplane.stages import deid
    from echoplane.stages.options import add_fields, config_of

    parser.usage = "echoplane deid SRC DST ... | deid accept DIGEST DST ... | deid pseudonym ..."
    parser.add_argument("source", metavar="SRC", help="the folder of your DICOM, with its subfolders")
    parser.add_argument("dst", metavar="DST", help="a new folder: dicom, quarantine (still patients'), report.html")
    add_fields(parser, deid.Config, {"root": "", "studies": "", "source": ""})
    values = vars(parser.parse_args(arguments))
    as_json, folder = values.pop("json"), Path(values.pop("dst"))
    with progress_apart(as_json):
        manifest = deid.into(folder, config_of(deid.Config, values | {"root": str(folder)}))
    path, page = str(folder / "manifest.json"), str(folder / "report.html")
    return report("deid", manifest.counts, as_json, set_aside=manifest.set_aside, manifest=path, report=page)


def _key_parser(name: str, title: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"echoplane deid {name}", description=title, epilog=f"example: {example}")
    parser.add_argument("--key-file", type=Path, help="key of the run, a file; else the variable ECHOPLANE_DEID_KEY")
    return parser


def run_accept(arguments: list[str]) -> int:
    """Releases one quarantined file whose pixels a person has inspected."""
    from echoplane.deid import accept, load_key
    from echoplane.deid.folder import policy_of

    title = "Release a quarantined file after a person has looked at its pixels; the header's rules all hold."
    parser = _key_parser("accept", title, "echoplane deid accept 5d41402abc4b exams-deid --person 'R. Reviewer'")
    parser.add_argument(
        "digest",
        metavar="DIGEST",
        help="12 digits or more of its keyed digest, as report.html lists it",
    )
    parser.add_argument("dst", metavar="DST", type=Path, help="the folder that `echoplane deid SRC DST` wrote")
    parser.add_argument("--person", required=True, help="who looked; stands in DST/audit.jsonl")
    asked = parser.parse_args(arguments)
    key, policy = load_key(asked.key_file), policy_of(asked.dst)
    outcome = accept(asked.digest, asked.dst, key, policy, person=asked.person)
    print(outcome.sentence if outcome.reason else f"accepted: {asked.dst / str(outcome.output)}")
    return SOME_INPUTS_REFUSED if outcome.reason else 0


def run_pseudonym(arguments: list[str]) -> int:
    """Prints the pseudonym of an id read from standard input: an argument would be kept in the shell's history."""
    from echoplane.deid import load_key

    title = "Print the pseudonym of a patient id, which is read from standard input."
    parser = _key_parser(
        "pseudonym", title, "echoplane deid pseudonym --key-file deid.key  (then type the id and press enter)"
    )
    key, patient_id = load_key(parser.parse_args(arguments).key_file), sys.stdin.readline().strip()
    if not patient_id:
        raise ConfigError("no patient id came on standard input.")
    print(key.pseudonym(patient_id))
    return 0
