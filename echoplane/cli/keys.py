"""`echoplane keys`: make the key that signs promotions, and list, add or revoke the keys that are trusted."""

import argparse
import json
from pathlib import Path

from echoplane.errors import ConfigError


def run_keys(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Changes or lists keys; the private key is never printed."""
    parser.add_argument("action", choices=["make", "list", "trust", "revoke"])
    parser.add_argument("key", nargs="?", default="", help="for trust: a public key; for revoke: a key's id")
    parser.add_argument(
        "--trusted", type=Path, help="the services' ECHOPLANE_TRUSTED_KEYS. Default: the user's own, for `make` none"
    )
    parser.add_argument("--out", type=Path, help="for make: a new file for the private key. Default: the user's own")
    parser.add_argument("--name", default="", help="who holds the private key")
    parser.add_argument("--tasks", default="", help="tasks that the key may sign, comma separated. Default: all")
    parser.add_argument("--reason", default="", help="for revoke: why")
    args = parser.parse_args(arguments)
    action = {"make": _make, "list": _list, "trust": _trust, "revoke": _revoke}[args.action]
    said = action(args, args.trusted or _own() / "trusted-keys.json")
    print(json.dumps(said) if args.json else "\n".join(_line(entry) for entry in said))
    return 0


def _own() -> Path:
    from echoplane.signing import own_folder

    folder = own_folder()
    if folder is None:
        raise ConfigError("this process has no home folder: name the files with --out and --trusted.")
    return folder


def _make(args: argparse.Namespace, trusted: Path) -> list[dict[str, str]]:
    from echoplane.signing import SIGNING_KEY, new_signing_key, trust

    path = args.out or _own() / SIGNING_KEY
    key = new_signing_key(path)
    if args.trusted or not args.out:
        trust(trusted, key.public, args.name or "own", _tasks(args))
    return [{"id": key.id, "public_key": key.public, "file": str(path)}]


def _trust(args: argparse.Namespace, trusted: Path) -> list[dict[str, str]]:
    from echoplane.signing import trust

    if not (args.key and args.name):
        raise ConfigError("`keys trust` needs the public key, as `keys make` printed it, and --name.")
    return [{"id": trust(trusted, args.key, args.name, _tasks(args)).id, "name": args.name}]


def _revoke(args: argparse.Namespace, trusted: Path) -> list[dict[str, str]]:
    from echoplane.signing import revoke

    if not (args.key and args.reason):
        raise ConfigError("`keys revoke` needs the key's id and --reason.")
    revoke(trusted, args.key, args.reason)
    return [{"id": args.key, "revoked": args.reason}]


def _list(args: argparse.Namespace, trusted: Path) -> list[dict[str, str]]:
    from echoplane.signing import read_trusted_keys

    content = read_trusted_keys(str(trusted) if args.trusted or trusted.exists() else "")
    return [
        {
            "id": key.id,
            "name": key.name,
            "tasks": ",".join(key.tasks) or "all",
            "public_key": key.public_key,
            "state": f"revoked: {content.revoked[key.id]}" if key.id in content.revoked else "trusted",
        }
        for key in content.keys
    ]


def _tasks(args: argparse.Namespace) -> tuple[str, ...]:
    from echoplane.tasks import names

    tasks = tuple(filter(None, map(str.strip, args.tasks.split(","))))
    if unknown := [task for task in tasks if task not in names()]:
        raise ConfigError(f"there is no task {unknown[0]!r}; expected one of {', '.join(names())}.")
    return tasks


def _line(entry: dict[str, str]) -> str:
    return "  ".join(entry.values())
