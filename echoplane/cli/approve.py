"""`echoplane approve`: a challenger becomes champion, in the name of a person."""

import argparse
import json
import os

from echoplane.cli.why import registry_at


def run_approve(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Checks the shadow evidence that the policy asks for, signs, and moves the alias."""
    parser.add_argument("task", help="the task whose challenger is approved")
    parser.add_argument("--by", required=True, help="who approves: a person's name or role")
    parser.add_argument("--reason", default="", help="why; it is kept in the registry, so name no patient")
    parser.add_argument(
        "--service",
        action="append",
        default=[],
        metavar="URL",
        help="a service whose metrics count the shadow answers; once per process. ECHOPLANE_TOKEN is its token",
    )
    parser.add_argument("--prometheus", default="", metavar="URL", help="the Prometheus that counts them instead")
    parser.add_argument("--days", type=int, default=30, help="days of Prometheus to count. Default 30")
    parser.add_argument("--tracking-uri", default="", help="the MLflow server. Default: MLFLOW_TRACKING_URI")
    args = parser.parse_args(arguments)
    registry = registry_at(args.tracking_uri)
    from echoplane.adapters.approval import ShadowCounts, approve
    from echoplane.adapters.registry import CHALLENGER
    from echoplane.adapters.shadow_counts import counts_of_prometheus, counts_of_services

    challenger = registry.by_alias(args.task, CHALLENGER)
    counts = None
    if challenger and args.prometheus:
        found = counts_of_prometheus(args.prometheus, args.task, challenger.number, args.days)
        counts = ShadowCounts(**found)
    elif challenger and args.service:
        token = os.environ.get("ECHOPLANE_TOKEN", "")
        counts = ShadowCounts(**counts_of_services(args.service, args.task, challenger.number, token))
    old, new = approve(registry, args.task, by=args.by, reason=args.reason, counts=counts)
    replaced = old.number if old else None
    if args.json:
        print(json.dumps({"task": args.task, "from": replaced, "to": new.number, "bundle": new.bundle_id}))
    else:
        print(
            f"{args.task}: version {new.number} answers now" + (f", version {replaced} no longer" if replaced else "")
        )
    return 0
