"""`echoplane retrain`: a person lists, approves or rejects requests for retraining, or stops the loop."""

import argparse
import getpass
import json
import os
from pathlib import Path

from echoplane.errors import ConfigError


def run_retrain(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Prints the requests, or adds a decision to the audit file; the monitor carries it out within its poll."""
    parser.add_argument("action", choices=["list", "approve", "reject", "stop", "resume"])
    parser.add_argument("request", nargs="?", help="id of the request, for approve and reject")
    parser.add_argument(
        "--state", type=Path, help="folder of the monitor. Default: ECHOPLANE_MONITOR_STATE, or monitor"
    )
    parser.add_argument("--by", default="", help="name of the person who decides; needed by all actions but list")
    parser.add_argument("--reason", default="", help="why; it is kept in the audit file, so name no patient")
    args = parser.parse_args(arguments)
    folder = args.state or Path(os.environ.get("ECHOPLANE_MONITOR_STATE", "monitor"))
    if not folder.is_dir():
        raise ConfigError("the monitor's folder is not there; give the monitor's ECHOPLANE_MONITOR_STATE as --state.")
    return _list(folder, args.json) if args.action == "list" else _decide(folder, args)


def _list(folder: Path, as_json: bool) -> int:
    from echoplane.monitoring.retraining import AuditFile, LoopPolicy, loop_of, now

    loop = loop_of(AuditFile(folder).events(), LoopPolicy(), now())
    if as_json:
        print(loop.model_dump_json())
        return 0
    if loop.stopped_by:
        print(f"stopped by {loop.stopped_by}: nothing starts until `echoplane retrain resume`")
    for one in loop.requests.values():
        decided = f"  {one.status} by {one.decided_by}" if one.decided_by else f"  {one.status}"
        print(f"{one.id}  {one.task}  {one.reason}  {one.requested:%Y-%m-%d %H:%M}{decided}  {one.outcome}".rstrip())
    if not loop.requests:
        print("nothing has been requested")
    return 0


def _decide(folder: Path, args: argparse.Namespace) -> int:
    from echoplane.monitoring.retraining import AuditFile, Event, Kind, decision

    if not args.by.strip():
        raise ConfigError(f"`retrain {args.action}` needs --by NAME: who decides.")
    kinds: dict[str, Kind] = {"approve": "approved", "reject": "rejected", "stop": "stopped", "resume": "resumed"}
    kind = kinds[args.action]

    def decide(events: list[Event]) -> Event:
        return decision(
            events, kind, args.request or "", by=args.by.strip(), user=getpass.getuser(), reason=args.reason
        )

    event = AuditFile(folder).append(decide)
    if event is None:  # `decide` always returns one or raises
        raise AssertionError
    print(json.dumps(event.model_dump(mode="json")) if args.json else f"{kind} {event.request} {event.task}".strip())
    if kind == "approved" and not args.json:
        print("the monitor starts the run if its ECHOPLANE_RETRAIN_COMMAND is set; see `echoplane retrain list`")
    return 0
