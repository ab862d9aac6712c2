"""BentoML service: processes, workers and packaging. `bentoml serve serving.service:EchoplaneService`.

BentoML's metrics and access log stay off: both would carry the path that a client made up. Ours are bounded.
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Collection
from typing import cast, get_args

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from echoplane import confinement
from echoplane.errors import ConfigError
from echoplane.processes import forbid_core_dumps
from echoplane.runtimes import RuntimeName
from echoplane.settings import ServingSettings, read_serving_settings
from echoplane.tasks import by_name
from echoplane.tasks.label_shares import check_shares
from serving import workers
from serving.api.http import app
from serving.api.models.shadow import Shadow
from serving.api.models.slots import ModelRefresher, Slot
from serving.api.models.sources import configured_challengers, configured_sources

for _telemetry in ("BENTOML_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
    os.environ.setdefault(_telemetry, "true")  # here, because BentoML reads it once this module is imported

HTTP_PROTOCOLS["auto"] = "serving.http_protocol:HttpProtocol"  # BentoML lets no protocol be chosen
workers.check_workers_often()

log = logging.getLogger("echoplane.serving")

FAR_OFF_S = 3600
"""BentoML's own timeout, long enough that ours always answers first, with a problem body."""


class OurApp:
    """Middleware that answers every request with our app, so that none reaches a route of BentoML's own."""

    def __init__(self, bentoml_app: ASGIApp) -> None:
        self._bentoml_app = bentoml_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._bentoml_app(scope, receive, send)
        else:
            await bentoml.get_current_service().app(scope, receive, send)


@bentoml.service(
    name="echoplane",
    workers=1,
    traffic={"timeout": FAR_OFF_S},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class EchoplaneService:
    """One process: its slots, the thread that refreshes their models, and the app."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check_settings() -> None:
        """Ends the command with exit status 2 and one sentence if a setting is wrong; called before workers start."""
        try:
            settings = read_serving_settings()
            runtime_order(settings.runtime_order)
            check_label_shares(settings, configured_sources(settings))
        except ConfigError as error:
            sys.stderr.write(f"echoplane: {error}\n")
            raise SystemExit(error.exit_code) from None

    def __init__(self) -> None:
        quiet_libraries()
        forbid_core_dumps()
        workers.announce_replacement()
        try:
            self._start(read_serving_settings())
        except ConfigError as error:
            log.error("%s", error)  # noqa: TRY400 (a message, not a traceback)
            os.kill(os.getppid(), signal.SIGTERM)  # else the supervisor would start workers for ever
            os._exit(error.exit_code)  # without the traceback that BentoML prints of SystemExit

    def _start(self, settings: ServingSettings) -> None:
        check_confinement(required=settings.require_confinement)
        self.slots = make_slots(settings)
        self.service = app.Service(self.slots, settings)
        self.service.decoders.start()
        self.app = app.build(self.service)
        self.shadows = [slot.shadow for slot in self.slots.values() if slot.shadow]
        self.refresher = ModelRefresher([*self.slots.values(), *self.shadows], settings.poll_s)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        self.refresher.close()
        self.service.close()
        closed: list[Shadow | Slot] = [*self.shadows, *self.slots.values()]
        for each in closed:
            each.close()


EchoplaneService.add_asgi_middleware(OurApp)  # type: ignore[attr-defined]  # the decorator makes it a Service


def check_confinement(*, required: bool) -> None:
    """Logs what this machine can't keep decoders from. Raises ConfigError for it if confinement is required."""
    missing = confinement.missing()
    for sentence in missing:
        log.warning("on this machine, %s.", sentence)
    if missing and required:
        raise ConfigError(
            f"ECHOPLANE_REQUIRE_CONFINEMENT is set, and on this machine {' and '.join(missing)}. Install libseccomp2, "
            "run a kernel with Landlock (5.13), or unset it."
        )


def make_slots(settings: ServingSettings) -> dict[str, Slot]:
    """Makes one slot per task, each with its challenger for shadow traffic if the registry is followed."""
    overrides = {
        "runtime": settings.runtime,
        "precision": settings.precision,
        "threads": settings.runtime_threads,
        "order": runtime_order(settings.runtime_order),
    }
    sources = configured_sources(settings)
    check_label_shares(settings, sources)
    shares = settings.label_shares
    slots = {task: Slot(task, source, overrides, shares.get(task)) for task, source in sources.items()}
    followed = [task for task, source in sources.items() if source.kind == "registry"]
    for task, source in configured_challengers(settings, followed).items():
        slots[task].shadow = Shadow(task, source, overrides, settings.shadow_share, shares.get(task))
    return slots


def check_label_shares(settings: ServingSettings, tasks: Collection[str]) -> None:
    """Raises ConfigError if shares are declared for a task that is not served, or not for all of its labels alone."""
    for task, shares in settings.label_shares.items():
        if task not in tasks:
            raise ConfigError(f"ECHOPLANE_LABEL_SHARES: expected shares of {' or '.join(sorted(tasks))} alone.")
        check_shares(shares, [label.name for label in by_name(task).labels()])


def runtime_order(named: str) -> tuple[RuntimeName, ...]:
    """Returns the runtimes in a comma separated list. Raises ConfigError if one is unknown."""
    order = tuple(filter(None, map(str.strip, named.split(","))))
    unknown = set(order) - set(get_args(RuntimeName))
    if unknown:
        raise ConfigError(f"ECHOPLANE_RUNTIME_ORDER: expected some of {', '.join(get_args(RuntimeName))}.")
    return cast(tuple[RuntimeName, ...], order)


def quiet_libraries() -> None:
    """Logs our own lines at INFO and turns off the libraries' warnings, which quote values of the file concerned."""
    logging.getLogger("echoplane").setLevel(logging.INFO)
    warnings.simplefilter("ignore")
