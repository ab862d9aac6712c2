"""Logs one line per failure, without any value of the file or address concerned."""

import logging
import traceback

log = logging.getLogger("echoplane.serving")


def log_failure(what: str, error: BaseException) -> None:
    """Logs that `what` failed, without the error's message, which may quote a file or an address with a password."""
    log.error("%s failed: %s", what, described(error))


def described(error: BaseException) -> str:
    """Returns the error's type and where it was raised, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} in {where}"
