"""The gateway as a process, and the commands for its operator: `python -m serving.gateway [run | stuck | resend]`."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import warnings

from echoplane.errors import ConfigError, EchoplaneError, unexpected
from serving.gateway import queue, scp, web
from serving.gateway.settings import GatewaySettings, read_gateway_settings
from serving.gateway.store import Store
from serving.gateway.worker import Worker


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    os.umask(0o077)  # everything that the gateway writes is its owner's alone
    args = _parser().parse_args(arguments)
    try:
        settings = read_gateway_settings()
        if args.command == "stuck":
            return _list_stuck(settings)
        if args.command == "resend":
            return _resend(settings, None if args.all else args.id)
        return run(settings)
    except EchoplaneError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception as error:
        sys.stderr.write(f"{unexpected(error)}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m serving.gateway", description="DICOM gateway. Research use only.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("run", help="receive studies until SIGTERM (the default)")
    commands.add_parser("stuck", help="list the work that was set aside, with its reasons")
    again = commands.add_parser("resend", help="put work that was set aside back into the queue")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", help="the work's id, as `stuck` prints it")
    which.add_argument("--all", action="store_true", help="all of it")
    return parser


def run(settings: GatewaySettings) -> int:
    """Receives and works until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("echoplane").setLevel(logging.INFO)
    warnings.simplefilter("ignore")  # the libraries' warnings quote values of the file concerned
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    store = Store(settings.store, settings.min_free_mib << 20)
    store.own()
    worker = Worker(store, settings)
    http = web.WebServer(web.build(store, settings), settings.bind, settings.http_port)
    http.start()
    try:
        server = scp.start(store, settings)
    except OSError as error:
        raise ConfigError(
            f"port {settings.dicom_port} cannot be listened on ({os.strerror(error.errno or 0)})."
        ) from None
    worker.start()
    port = server.socket.getsockname()[1] if server.socket else settings.dicom_port
    logging.getLogger("echoplane.gateway").info("listens on port %d", port)
    stopped.wait()
    server.shutdown()
    http.close()
    worker.close()
    store.close()
    return 0


def _list_stuck(settings: GatewaySettings) -> int:
    """Prints one line per item; returns 3 if there is any, so that a script can tell."""
    with contextlib.closing(Store(settings.store)) as store:
        items = queue.stuck(store)
    for work in items:
        since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(work.created_s))
        sys.stdout.write(f"{work.id}  {since} UTC  {work.kind} {work.peer}  {work.attempts} attempts  {work.reason}\n")
    sys.stdout.write(f"{len(items)} stuck.\n")
    return 3 if items else 0


def _resend(settings: GatewaySettings, work_id: str | None) -> int:
    with contextlib.closing(Store(settings.store)) as store:
        count = queue.resend(store, work_id)
    sys.stdout.write(f"{count} put back into the queue.\n")
    return 0 if count or work_id is None else 1


if __name__ == "__main__":
    sys.exit(main())
