"""`echoplane measure`: volumes and function of one cine MR."""

import argparse
import json
from typing import Any

from echoplane.cli.command import progress_apart


def run_measure(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Prints the measures of one cine and writes masks and a report; a cine that cannot be measured is refused with a
    reason."""
    from echoplane.stages import measure
    from echoplane.stages.options import add_fields, config_of

    add_fields(parser, measure.Config, {"cine": "CINE"})
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    with progress_apart(as_json):
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
