"""`python -m serving.enrolment`: one process per installation, beside the repository of edge devices."""

import logging
import sys

import uvicorn

from echoplane.edge.enrolment import Enrolment
from echoplane.errors import EchoplaneError
from serving.enrolment.app import build
from serving.enrolment.settings import PREFIX, EnrolmentSettings, read_enrolment_settings
from serving.http_protocol import HttpProtocol
from serving.listening import listen

SHUTDOWN_S = 5


def main() -> int:
    """Runs until SIGTERM or Ctrl-C. A wrong setting is one line on standard error, and the exit status is 2."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("echoplane").setLevel(logging.INFO)
    try:
        settings = read_enrolment_settings()
        enrolment = Enrolment(settings.folder, settings.valid_days, settings.grace_days)
        listening = listen("enrolment", settings.host, settings.port, PREFIX)
    except EchoplaneError as error:
        logging.getLogger("echoplane.enrolment").error("%s", error)  # noqa: TRY400 (a message, not a traceback)
        return error.exit_code
    uvicorn.Server(configured(enrolment, settings)).run(sockets=[listening])
    return 0


def configured(enrolment: Enrolment, settings: EnrolmentSettings) -> uvicorn.Config:
    return uvicorn.Config(
        build(enrolment),
        http=HttpProtocol,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
        timeout_graceful_shutdown=SHUTDOWN_S,  # a device that keeps its connection open would delay the end
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    sys.exit(main())
