"""`echoplane audit`: show or verify the log of promotions, approvals, rollbacks and releases."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from echoplane.errors import AuditError, ConfigError

if TYPE_CHECKING:
    from echoplane.audit import Record


def run_audit(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Prints the records, or the number of them and the last hash; a damaged log is an error."""
    parser.add_argument("action", choices=["show", "verify"])
    parser.add_argument("--log", type=Path, help="the log. Default: ECHOPLANE_AUDIT_LOG, or the user's own")
    parser.add_argument("--subject", default="", help="for show: only records of this task or file")
    parser.add_argument("--holds", default="", metavar="HASH", help="for verify: a hash that the log must contain")
    args = parser.parse_args(arguments)
    from echoplane.audit import log_path, read_hashed

    if args.log and not args.log.is_file():
        raise ConfigError("there is no audit log at --log.")
    records = read_hashed(args.log or log_path())
    if args.action == "verify":
        return _verified(args, [digest for _, digest in records])
    for record, digest in records:
        if args.subject in ("", record.subject):
            print(record.model_dump_json(by_alias=True) if args.json else _line(record, digest))
    return 0


def _verified(args: argparse.Namespace, hashes: list[str]) -> int:
    if args.holds and args.holds not in hashes:
        raise AuditError("the log lacks that record: it was cut off, rewritten, or is another log.")
    head = hashes[-1] if hashes else ""
    print(json.dumps({"records": len(hashes), "head": head}) if args.json else f"{len(hashes)} records intact  {head}")
    return 0


def _line(record: "Record", digest: str) -> str:
    details = "  ".join(f"{name}={_short(value)}" for name, value in record.details.items())
    when = f"{record.time:%Y-%m-%d %H:%M:%S}Z"
    return f"{record.number}  {when}  {record.action}  {record.subject}  by {record.by}  {details}  [{digest[:12]}]"


def _short(value: object) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return text[:12] if len(text) == 64 else text
