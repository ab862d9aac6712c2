"""`echoplane drift` compares studies in service with accepted ones; `echoplane drift-reference` accepts some."""

import argparse
import json

from echoplane.cli.command import progress_apart, report


def run_drift(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Prints which streams drift and since when; the exit status is 0 with or without drift."""
    from echoplane.stages import drift
    from echoplane.stages.options import add_fields, config_of

    add_fields(parser, drift.Config, {})
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    with progress_apart(as_json):
        found = drift.run(config_of(drift.Config, values))
    if as_json:
        print(json.dumps(found))
        return 0
    print(f"{found['task']} {found['bundle_id'][:12]}: {found['studies']} studies")
    alarm = found["alarm"]
    print(f"drift: {alarm['sentence']}" if alarm else "no drift: studies look like the accepted ones.")
    for one in found["streams"][:5]:
        means = f"mean {one['mean']:.3g}, was {one['accepted_mean']:.3g}"
        print(f"  {one['stream']:20} evidence {one['evidence']:10.3g}   {means}")
    return 0


def run_drift_reference(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Writes the reference and prints how many studies it holds."""
    from echoplane.stages import drift_reference
    from echoplane.stages.options import add_fields, config_of

    add_fields(parser, drift_reference.Config, {})
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    accepted = drift_reference.run(config_of(drift_reference.Config, values))
    counts = accepted.model_dump(mode="json", exclude={"schema_version"})
    return report("drift-reference", counts, as_json, folder=values["out"])
