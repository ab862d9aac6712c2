"""`python -m serving.monitor`: one process per installation."""

import functools
import logging
import sys
from pathlib import Path

import uvicorn

from echoplane import tasks
from echoplane.adapters.promotions import Authority
from echoplane.adapters.registry import Registry
from echoplane.errors import EchoplaneError
from echoplane.monitoring.model_monitor import Monitors
from echoplane.monitoring.retraining import MONITOR
from serving.listening import listen
from serving.monitor.app import build
from serving.monitor.references import reference_of_bundle
from serving.monitor.rollback import AutomaticRollback
from serving.monitor.settings import MonitorSettings, read_monitor_settings
from serving.monitor.trigger import Trigger
from serving.monitor.watcher import Watcher

log = logging.getLogger("echoplane.monitor")


def main() -> int:
    """Runs until SIGTERM or Ctrl-C. A wrong setting is one line on standard error, and the exit status is 2."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("echoplane").setLevel(logging.INFO)
    try:
        settings = read_monitor_settings()
        token = settings.webhook_token()
        listening = listen("monitor", settings.monitor_host, settings.monitor_port, "ECHOPLANE_MONITOR_")
        watcher = make_watcher(settings)
    except EchoplaneError as error:
        log.error("%s", error)  # noqa: TRY400 (a message, not a traceback)
        return error.exit_code
    watcher.start()
    log.info("the monitor listens at http://%s:%d/", settings.monitor_host, settings.monitor_port)
    app = build(watcher, token, settings.monitor_token_file)
    try:
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
    finally:
        watcher.close()
    return 0


def make_watcher(settings: MonitorSettings) -> Watcher:
    """Makes the monitors, the trigger and their loop, which is not started yet."""
    folder, policy = Path(settings.monitor_state), settings.policy()
    find = functools.partial(reference_of_bundle, settings.evaluations)
    monitors = Monitors(folder, settings.prediction_log, find)
    trigger = Trigger(folder, policy, settings.retrain_command, settings.retrain_timeout_s, tasks.names())
    days = settings.prediction_log_retention_days
    rollback = make_rollback(settings) if settings.automatic_rollback else None
    return Watcher(monitors, trigger, policy, settings.prediction_log, settings.monitor_poll_s, days, rollback)


def make_rollback(settings: MonitorSettings) -> AutomaticRollback:
    """Returns what rolls back. Raises ConfigError if the registry's address or the signing key can't be used."""
    Authority.configured(MONITOR)
    return AutomaticRollback(Registry(settings.mlflow_tracking_uri), settings.rollback_policy(), tasks.names())


if __name__ == "__main__":
    sys.exit(main())
