"""`echoplane edge`: publish a bundle to edge devices by rings, halt and resume the roll-out, see the fleet."""

import argparse
import json
from pathlib import Path
from typing import Any

from echoplane.errors import ConfigError

NEEDS_TASK = ("halt", "resume", "widen")


def run_edge(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Runs one action on a repository and copies the result to where devices fetch it."""
    actions = ["init", "publish", "widen", "halt", "resume", "status", "refresh", "rotate", "invite", "revoke"]
    parser.add_argument("action", choices=actions, help="what to do; see docs/edge.md")
    parser.add_argument("repository", type=Path, help="folder of the TUF repository")
    parser.add_argument("--keys", type=Path, action="append", default=[], help="folder of signing keys; repeatable")
    parser.add_argument("--new-keys", type=Path, help="folder for the keys that init and rotate make")
    parser.add_argument("--channel", default="stable", help="group of devices with a plan of its own. Default: stable")
    parser.add_argument("--bundle", type=Path, help="bundle folder to publish")
    parser.add_argument("--task", default="", help="task whose roll-out is changed")
    parser.add_argument("--ring", choices=["first", "tenth", "all"], default="first", help="ring. Default: first")
    parser.add_argument("--devices", default="", help="ids of devices that have not reported yet, comma separated")
    parser.add_argument("--reason", default="", help="reason of a halt; every device reports it, so name no patient")
    parser.add_argument("--reports", default="", help="folder or s3:// address of the devices' reports")
    parser.add_argument("--to", default="", help="folder or s3:// address that devices read; a copy is put there")
    parser.add_argument("--act", action="store_true", help="status: do what the policy decides")
    parser.add_argument("--soak-h", type=float, default=24, help="status: hours in a ring before the next. Default: 24")
    parser.add_argument("--max-failed-share", type=float, default=0.1, help="status: share that halts. Default: 0.1")
    parser.add_argument("--min-answers", type=int, default=200, help="status: answers that are compared. Default: 200")
    parser.add_argument(
        "--max-more-abstained", type=float, default=0.05, help="status: rise of abstentions that halts. Default: 0.05"
    )
    parser.add_argument("--min-feedback", type=int, default=30, help="status: feedback that is compared. Default: 30")
    parser.add_argument(
        "--max-more-wrong", type=float, default=0.05, help="status: rise of wrong labels that halts. Default: 0.05"
    )
    parser.add_argument("--max-slower", type=float, default=1.5, help="status: factor of time that halts. Default: 1.5")
    parser.add_argument("--device", default="", help="device that is invited or revoked")
    parser.add_argument("--enrolment", type=Path, help="folder of invitations and devices; the first invite makes it")
    parser.add_argument("--valid-h", type=float, default=72, help="invite: hours until it expires. Default: 72")
    parser.add_argument("--page", type=Path, help="status: file for a page of the whole fleet")
    parser.add_argument("--metrics", type=Path, help="status: file of metrics for node_exporter, such as edge.prom")
    args = parser.parse_args(arguments)
    needed = (
        ("publish", args.bundle, "--bundle"),
        ("init rotate", args.new_keys, "--new-keys"),
        ("invite revoke", args.device, "--device"),
        ("invite revoke", args.enrolment, "--enrolment"),
    )
    for action, given, option in needed:
        if args.action in action.split() and not given:
            raise ConfigError(f"`edge {args.action}` needs {option}.")
    if args.action in NEEDS_TASK and not args.task:
        raise ConfigError(f"`edge {args.action}` needs --task.")
    actions_of = {"status": _status, "invite": _invite, "revoke": _revoke}
    outcome = actions_of.get(args.action, _change)(args)
    if args.to:
        from echoplane.edge.upload import upload

        outcome["copied"] = upload(args.repository, args.to)
    print(json.dumps(outcome) if args.json else "\n".join(f"{name}: {value}" for name, value in outcome.items()))
    return 0


def _invite(args: argparse.Namespace) -> dict[str, Any]:
    """Makes an invitation; with the first one, the folder of the enrolment and its authority."""
    from datetime import UTC, datetime, timedelta

    from echoplane.edge.enrolment import Enrolment, create

    now = datetime.now(UTC)
    _opened(args)
    root = (args.repository / "metadata" / "1.root.json").read_bytes()
    if not (args.enrolment / "ca.key").exists():
        create(args.enrolment, root, now)
    enrolment = Enrolment(args.enrolment)
    if enrolment.root != root:
        raise ConfigError("the enrolment is of another repository; give another folder as --enrolment.")
    valid = timedelta(hours=args.valid_h)
    invitation = enrolment.invite(args.device, valid, now)
    return {"invitation": str(invitation), "expires": (now + valid).isoformat(timespec="minutes")}


def _revoke(args: argparse.Namespace) -> dict[str, Any]:
    from echoplane.edge.enrolment import Enrolment

    return {"revoked": Enrolment(args.enrolment).revoke(args.device)}


def _change(args: argparse.Namespace) -> dict[str, Any]:
    from echoplane.edge import publish, repository

    if args.action == "init":
        repository.create(args.repository, args.new_keys)
        return {"repository": "made", "root": "metadata/1.root.json goes to every device"}
    repo = _opened(args)
    if args.action == "rotate":
        repository.rotate_root(repo, args.new_keys)
        return {"root": f"version {repo.root().version}"}
    if args.action == "refresh":
        publish.refresh(repo)
        return {"timestamp": f"version {repo.timestamp().version}"}
    where = publish.Rollout(repo, args.channel, args.task)
    if args.action == "halt":
        return publish.halt(where, args.reason).model_dump(mode="json")
    if args.action == "resume":
        return publish.resume(where).model_dump(mode="json")
    devices = _devices(args)
    if args.action == "widen":
        return publish.widen(where, args.ring, devices).model_dump(mode="json")
    return publish.publish(repo, args.channel, args.bundle, args.ring, devices).model_dump(mode="json")


def _status(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the plan and the fleet by task; with --act, halts or widens as the policy decides."""
    from echoplane.edge import fleet, policy, publish

    repo, received = _opened(args), _received(args)
    limits = policy.Policy(
        soak_h=args.soak_h,
        max_failed_share=args.max_failed_share,
        min_answers=args.min_answers,
        max_more_abstained=args.max_more_abstained,
        min_feedback=args.min_feedback,
        max_more_wrong=args.max_more_wrong,
        max_slower=args.max_slower,
    )
    here = received.of_channel(args.channel)
    shown: dict[str, Any] = {"devices": len(here.reports)}
    for task, plan in publish.plan_of(repo, args.channel).tasks.items():
        if args.task not in ("", task):
            continue
        shown[task] = fleet.summary(here.reports, task) | {"stable": plan.stable}
        if plan.candidate:
            tested = publish.abstained_in_evaluation(repo, plan.candidate.bundle)
            decision = policy.decide(plan, task, here, limits, repo.now, tested)
            shown[task] |= {"candidate": plan.candidate.bundle, "ring": plan.candidate.ring}
            shown[task] |= {"decision": decision.action, "reason": decision.reason} if decision else {}
            if args.act and decision:
                _act(publish.Rollout(repo, args.channel, task), decision, [one.device for one in here.reports])
    if args.page or args.metrics:
        shown |= _write_view(args, repo, received, limits)
    return shown


def _write_view(args: argparse.Namespace, repo: Any, received: Any, limits: Any) -> dict[str, Any]:
    """Writes the page and the metrics of all channels, as they stand after what the policy did."""
    from echoplane.edge import fleet_metrics, fleet_page, fleet_view, publish
    from echoplane.files import write_atomically

    plans = {channel: publish.plan_of(repo, channel) for channel in publish.channels(repo)}
    tested = {
        bundle: publish.abstained_in_evaluation(repo, bundle) for plan in plans.values() for bundle in plan.bundles()
    }
    repository = fleet_view.Repository(plans, repo.timestamp().expires, tested)
    expected = {args.channel: {*_named(args), *(_enrolled(args) or {})}}
    fleet = fleet_view.fleet_of(repository, received, expected, limits, repo.now)
    if args.page:
        write_atomically(args.page, fleet_page.fleet_page(fleet).encode())
    if args.metrics:
        write_atomically(args.metrics, fleet_metrics.fleet_exposition(fleet))
    return {"need a look": fleet.unwell}


def _act(where: Any, decision: Any, devices: list[str]) -> None:
    from echoplane.edge import publish

    if decision.action == "halt":
        publish.halt(where, decision.reason)
    elif decision.action == "widen":
        publish.widen(where, decision.ring, devices)


def _devices(args: argparse.Namespace) -> list[str]:
    return sorted({report.device for report in _received(args).reports} | set(_named(args)))


def _named(args: argparse.Namespace) -> list[str]:
    from echoplane.edge.fleet import check_device

    return [check_device(one.strip()) for one in args.devices.split(",") if one.strip()]


def _received(args: argparse.Namespace) -> Any:
    """Reads the reports; with --enrolment, only those that enrolled devices signed."""
    from echoplane.edge.fleet import Received
    from echoplane.edge.upload import receive

    return receive(args.reports, _enrolled(args)) if args.reports else Received([], [])


def _enrolled(args: argparse.Namespace) -> dict[str, str] | None:
    from echoplane.edge.enrolment import Enrolment

    return Enrolment(args.enrolment).keys() if args.enrolment else None


def _opened(args: argparse.Namespace) -> Any:
    from echoplane.edge.keys import read_keys
    from echoplane.edge.repository import EdgeRepository

    if not (args.repository / "metadata").is_dir():
        raise ConfigError("there is no repository in the folder; `echoplane edge init` makes one.")
    return EdgeRepository(args.repository, read_keys(args.keys))
