"""`python -m serving.edge run` follows the plan; `once` does so one time; `serve` becomes the service on its bundles.

The agent and the service are two processes, so that neither takes the other with it: the service answers from the
links below ECHOPLANE_EDGE_FOLDER whether the agent runs or not.
"""

import argparse
import logging
import os
import random
import sys
import threading
from types import FrameType

from echoplane.errors import EchoplaneError, explained
from serving.edge.settings import EdgeSettings, read_edge_settings
from serving.edge.slots import Slots

BENTOML = ("-m", "bentoml", "serve", "serving.service:EchoplaneService")
JITTER = 0.1
"""Share of the interval that is added at random, so that a fleet does not ask at the same moment."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m serving.edge", description=__doc__)
    parser.add_argument("action", choices=["run", "once", "serve"], nargs="?", default="run")
    parser.add_argument("service", nargs=argparse.REMAINDER, help="serve: options of `bentoml serve`")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = read_edge_settings()
        return _serve(settings, args.service) if args.action == "serve" else _follow(settings, args.action == "once")
    except (EchoplaneError, OSError) as error:
        sys.stderr.write(f"edge: {explained(error)}\n")
        return error.exit_code if isinstance(error, EchoplaneError) else 1


def _follow(settings: EdgeSettings, once: bool) -> int:
    import signal

    from serving.edge.device import Device

    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    device = Device(settings)
    while not stop.is_set():
        report = device.cycle()
        if once:
            sys.stdout.write(report.model_dump_json(indent=1) + "\n")
            break
        stop.wait(settings.poll_s * (1 + random.random() * JITTER))  # noqa: S311 (no secret)
    return 0


def _serve(settings: EdgeSettings, options: list[str]) -> int:
    """Replaces this process by the service, which waits for the first bundle if there is none."""
    slots = Slots(settings.folder, settings.reserve_mib)
    tasks = [task.strip() for task in settings.tasks.split(",") if task.strip()]
    os.environ["ECHOPLANE_BUNDLES"] = ",".join(f"{task}={slots.link(task)}" for task in tasks)
    os.environ.setdefault("ECHOPLANE_PREDICTION_LOG", str(settings.prediction_log or ""))
    os.execv(sys.executable, [sys.executable, *BENTOML, *options])  # noqa: S606 (no shell)


if __name__ == "__main__":
    sys.exit(main())
