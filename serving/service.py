"""The BentoML service: processes, workers and packaging. `bentoml serve serving.service:EchoplaneService`.

Its metrics and access log stay off: both would carry the path that a client made up. Ours are bounded."""

import logging
import os
import warnings

import bentoml
from starlette.types import Receive, Scope, Send

from echoplane.settings import ServingSettings, read_serving_settings
from serving.api.http import app
from serving.api.models.slots import Follower, Slot
from serving.api.models.sources import configured_sources

for _telemetry in ("BENTOML_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
    os.environ.setdefault(_telemetry, "true")  # here, because BentoML reads it once this module is imported

FAR_OFF_S = 3600
"""BentoML's own timeout: ours answers first, with a problem body."""


async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    """The app of this process's service; as a function it also answers the paths that nobody knows."""
    await bentoml.get_current_service().app(scope, receive, send)


@bentoml.service(
    name="echoplane",
    workers=1,
    traffic={"timeout": FAR_OFF_S},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(mounted, path="/")
class EchoplaneService:
    """One process: its slots, the thread that follows their models, and the app."""

    def __init__(self) -> None:
        quiet_libraries()
        settings = read_serving_settings()
        self.slots = make_slots(settings)
        self.service = app.Service(self.slots, settings)
        self.app = app.build(self.service)
        self.follower = Follower(list(self.slots.values()), settings.poll_s)

    async def __is_ready__(self) -> bool:
        return bool(self.slots) and all(slot.model for slot in self.slots.values())

    @bentoml.on_shutdown
    def close(self) -> None:
        self.follower.close()
        self.service.admission.close()
        for slot in self.slots.values():
            slot.close()


def make_slots(settings: ServingSettings) -> dict[str, Slot]:
    overrides = {
        "runtime": settings.runtime,
        "precision": settings.precision,
        "threads": settings.runtime_threads,
    }
    return {task: Slot(task, source, overrides) for task, source in configured_sources(settings).items()}


def quiet_libraries() -> None:
    """Our own lines at INFO; libraries' warnings off, because they quote values of the file that they are about."""
    logging.getLogger("echoplane").setLevel(logging.INFO)
    warnings.simplefilter("ignore")
