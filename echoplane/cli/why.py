"""`echoplane why`: why a model is live, or was; `echoplane evidence`: the pack that proves it later."""

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from echoplane.errors import ConfigError

if TYPE_CHECKING:
    from echoplane.adapters.registry import Registry
    from echoplane.evidence.pack import Manifest


def run_why(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Prints data, training, evaluation, decision, approvals and history of a version."""
    parser.add_argument("task", help="the task whose model is explained")
    parser.add_argument("--version", default="", help="a version by number, live or not. Default: the champion")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page that needs no other file")
    parser.add_argument("--tracking-uri", default="", help="the MLflow server. Default: MLFLOW_TRACKING_URI")
    args = parser.parse_args(arguments)
    registry = registry_at(args.tracking_uri)
    from echoplane.adapters.why import release_of
    from echoplane.files import write_atomically

    release = release_of(registry, args.task, args.version)
    if args.html:
        write_atomically(args.html, release.page().encode())
    print(release.model_dump_json(by_alias=True) if args.json else release.text())
    return 0


def run_evidence(parser: argparse.ArgumentParser, arguments: list[str]) -> int:
    """Writes or verifies an evidence pack."""
    parser.add_argument("action", choices=["make", "verify"])
    parser.add_argument("name", metavar="TASK|FILE", help="for make: the task; for verify: the pack")
    parser.add_argument("--version", default="", help="a version by number. Default: the champion")
    parser.add_argument("--out", type=Path, metavar="FILE", help="for make: the pack. Default: TASK-VERSION.zip")
    parser.add_argument(
        "--add",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="for make: an SBOM, licences, test results",
    )
    parser.add_argument("--allow-unsigned", action="store_true", help="for verify: check digests alone if unsigned")
    parser.add_argument("--tracking-uri", default="", help="the MLflow server. Default: MLFLOW_TRACKING_URI")
    args = parser.parse_args(arguments)
    manifest = _make(args) if args.action == "make" else _verify(args)
    if args.json:
        print(manifest.model_dump_json(by_alias=True))
    else:
        done = "written" if args.action == "make" else "verified"
        print(f"{manifest.task} version {manifest.version}: {len(manifest.files)} files {done}")
    return 0


def registry_at(tracking_uri: str) -> "Registry":
    """Returns the registry at an address, or at MLFLOW_TRACKING_URI. Raises ConfigError if neither is given."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise ConfigError("--tracking-uri or MLFLOW_TRACKING_URI must name the MLflow server.")
    from echoplane.adapters.registry import Registry

    return Registry(uri)


def _make(args: argparse.Namespace) -> "Manifest":
    registry = registry_at(args.tracking_uri)
    from echoplane.adapters.why import release_of
    from echoplane.evidence import make_pack
    from echoplane.signing import read_signing_key

    release = release_of(registry, args.name, args.version)
    attached = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = registry.download(registry.by_number(args.name, release.version), Path(folder) / "bundle")
        attached["card.md"] = bundle.content("card.md")
        attached["bundle.json"] = (bundle.folder / "bundle.json").read_bytes()
    for path in args.add:
        attached[f"attached/{path.name}"] = _read(path)
    out = args.out or Path(f"{release.task}-{release.version}.zip")
    return make_pack(out, release, attached, read_signing_key())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"a file of --add cannot be read ({error.strerror}).") from None


def _verify(args: argparse.Namespace) -> "Manifest":
    from echoplane.evidence import verify_pack
    from echoplane.settings import read_trust_settings
    from echoplane.signing import read_trusted_keys

    trusted = read_trusted_keys(read_trust_settings().trusted_keys)
    return verify_pack(Path(args.name), trusted, allow_unsigned=args.allow_unsigned)
