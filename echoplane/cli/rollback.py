"""`echoplane rollback`: the champion of a task returns to the version before it."""

import argparse
import json

from echoplane.cli.why import registry_at


def run_rollback(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Moves the alias and prints both versions; services follow within their ECHOPLANE_POLL_S."""
    parser.add_argument("task", help="the task whose champion is replaced")
    parser.add_argument("--reason", required=True, help="why; it is kept in the registry, so name no patient")
    parser.add_argument("--to", default="", metavar="VERSION", help="a version by number. Default: the previous one")
    parser.add_argument("--by", default="", help="who decides. Default: the user of this process")
    parser.add_argument("--tracking-uri", default="", help="the MLflow server. Default: MLFLOW_TRACKING_URI")
    args = parser.parse_args(arguments)
    registry = registry_at(args.tracking_uri)
    from echoplane.adapters.rollback import roll_back

    old, new = roll_back(registry, args.task, by=args.by, reason=args.reason, to=args.to)
    if args.json:
        print(json.dumps({"task": args.task, "from": old.number, "to": new.number, "bundle": new.bundle_id}))
    else:
        print(f"{args.task}: version {new.number} answers again, version {old.number} no longer")
    return 0
