"""`echoplane token`: make, list and remove the access tokens of the HTTP service."""

import argparse
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from echoplane.errors import ConfigError


def run_token(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Changes or lists a token file; a new token is printed only once."""
    parser.add_argument("action", choices=["new", "list", "remove"])
    parser.add_argument("name", nargs="?", help="who uses the token; it stands in the audit log")
    parser.add_argument("--file", type=Path, required=True, help="the service's ECHOPLANE_TOKEN_FILE")
    parser.add_argument("--site", default="default", help="the site that its requests come from. Default: default")
    parser.add_argument("--roles", default="predict", help="of predict, feedback, operate; comma separated")
    parser.add_argument("--days", type=int, help="days until it expires. Default: never")
    args = parser.parse_args(arguments)
    if args.action == "list":
        return _list(args.file)
    if not args.name:
        raise ConfigError(f"`token {args.action}` needs a NAME.")
    return _remove(args) if args.action == "remove" else _new(args)


def _new(args: argparse.Namespace) -> int:
    from echoplane.tokens import ROLES, change_tokens, new_token

    roles = tuple(role for role in ROLES if role in args.roles.split(","))
    if len(roles) != len(set(args.roles.split(","))):
        raise ConfigError(f"--roles has an unknown role; expected some of {', '.join(ROLES)}.")
    expires = datetime.now(UTC) + timedelta(days=args.days) if args.days is not None else None
    token, entry = new_token(args.name, args.site, roles, expires)
    change_tokens(args.file, add=entry)
    print(json.dumps({"token": token, "name": args.name}) if args.json else token)
    return 0


def _remove(args: argparse.Namespace) -> int:
    from echoplane.tokens import change_tokens

    removed = change_tokens(args.file, remove=args.name)
    if not removed:
        raise ConfigError("no token has this name; see `echoplane token list --file FILE`.")
    print(json.dumps({"removed": removed}) if args.json else f"{removed} token(s) removed")
    return 0


def _list(file: Path) -> int:
    from echoplane.tokens import read_tokens

    for entry in read_tokens(file).values():
        until = f"until {entry.expires:%Y-%m-%d}" if entry.expires else "without end"
        print(f"{entry.name}  site {entry.site}  {','.join(entry.roles)}  {until}")
    return 0
