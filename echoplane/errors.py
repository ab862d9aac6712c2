"""Every error that echoplane raises on purpose, with the HTTP status that it becomes.

    EchoplaneError
      InputError               the caller's file                      exit 3
        NotAnImage        400  no DICOM, or cut off
        TooLarge          413  more pixels or bytes than allowed
        Unsupported       415  a transfer syntax or SOP class that is not read
        UnusableStudy     422  read, but this task can't answer it
      ConfigError              the caller's settings or arguments     exit 2
      BundleError              refused; the old model keeps serving   exit 1
        RegistryUnavailable           the registry, or what it keeps artifacts in, does not answer now
      StageError               a stage could not be done              exit 1
        StoreUnavailable              the object store does not answer now

A message says what is wrong, what was expected and what to do. It never holds a value of a DICOM
attribute that could name a patient: no name, id, date, UID, path or free text.
"""

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class EchoplaneError(Exception):
    """Base of all; `exit_code` is what the command line ends with."""

    exit_code = 1


class InputError(EchoplaneError):
    """The file that was sent; `status` is the HTTP status, `kind` the stable end of the problem's type."""

    exit_code = 3
    status = 400
    kind = "bad-input"


class NotAnImage(InputError):
    status = 400
    kind = "not-an-image"


class TooLarge(InputError):
    status = 413
    kind = "too-large"


class Unsupported(InputError):
    status = 415
    kind = "unsupported"


class UnusableStudy(InputError):
    status = 422
    kind = "unusable-study"


class ConfigError(EchoplaneError, ValueError):
    exit_code = 2


class BundleError(EchoplaneError):
    pass


class RegistryUnavailable(BundleError):
    pass


class StageError(EchoplaneError):
    pass


class StoreUnavailable(StageError):
    pass


def wrong_field(error: "ValidationError", shown: Callable[[str], str] = "`{}`".format) -> str:
    """Which field is wrong and what was expected, never its value; a name that is not known before what it left out."""
    wrong = error.errors(include_input=False, include_url=False)
    first = min(wrong, key=lambda each: each["type"] != "extra_forbidden")
    field = shown(str(first["loc"][0])) if first["loc"] else "the settings"
    inner = "".join(f".{part}" for part in first["loc"][1:])
    return f"{field}{inner}: {first['msg']}."


def unexpected(error: Exception) -> str:
    """What `explained` says of an error that ends a program; with ECHOPLANE_DEBUG=1 it is raised again instead."""
    if os.environ.get("ECHOPLANE_DEBUG"):
        raise error
    return explained(error)


def explained(error: Exception) -> str:
    """A sentence for whoever reads a terminal or a log: our own errors' message; of others where it happened, and the
    system's reason (a full disk, a missing right), since a library's own message may quote a file."""
    if isinstance(error, EchoplaneError):
        return str(error)
    reason = f"{os.strerror(error.errno)}; " if isinstance(error, OSError) and error.errno else ""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    return (
        f"failed unexpectedly ({reason}{type(error).__name__} at {place}); ECHOPLANE_DEBUG=1 shows the whole traceback."
    )
