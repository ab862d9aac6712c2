"""Every error that echoplane raises on purpose, with its HTTP status or exit status.

    EchoplaneError
      InputError               the caller's file                      exit 3
        NotAnImage        400  not an image, or truncated
        TooLarge          413  more pixels or bytes than allowed
        Unsupported       415  a transfer syntax or SOP class that is not read
        UnusableStudy     422  read, but this task cannot answer it
      ConfigError              the caller's settings or arguments     exit 2
      BundleError              refused; the old model keeps serving   exit 1
        RegistryUnavailable    the registry or its artifact store is unavailable
        UntrustedModel         its promotion is not signed by a trusted key
      AuditError               the audit log is damaged or unwritable exit 1
      EvidenceError            an evidence pack was changed           exit 1
      StageError               a stage failed                         exit 1
        StoreUnavailable       the object store is unavailable

A message says what is wrong, what was expected and what to do. It never holds a value of a DICOM attribute that could
identify a patient: no name, id, date, UID, path or free text.
"""

import errno
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


FULL = (errno.ENOSPC, errno.EDQUOT)


class EchoplaneError(Exception):
    """Base of all errors; `exit_code` is the exit status of the command line."""

    exit_code = 1


class InputError(EchoplaneError):
    """Error in the caller's file; `status` is the HTTP status, `kind` the stable last part of the problem's type."""

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


class UntrustedModel(BundleError):
    pass


class AuditError(EchoplaneError):
    pass


class EvidenceError(EchoplaneError):
    pass


class StageError(EchoplaneError):
    pass


class StoreUnavailable(StageError):
    pass


def wrong_field(error: "ValidationError", shown: Callable[[str], str] = "`{}`".format) -> str:
    """Returns which field is wrong and what was expected, never its value. An unknown name is reported before a missing
    field, which it may be a misspelling of."""
    wrong = error.errors(include_input=False, include_url=False)
    first = min(wrong, key=lambda each: each["type"] != "extra_forbidden")
    field = shown(str(first["loc"][0])) if first["loc"] else "the settings"
    inner = "".join(f".{part}" for part in first["loc"][1:])
    return f"{field}{inner}: {first['msg']}."


def unexpected(error: Exception) -> str:
    """Returns `explained(error)` for an error that ends a program; raises it again if ECHOPLANE_DEBUG=1."""
    if os.environ.get("ECHOPLANE_DEBUG"):
        raise error
    return explained(error)


def explained(error: Exception) -> str:
    """Returns one sentence for a terminal or a log: the message of an echoplane error; for any other its place in the
    code and the system's reason (a full disk, a missing permission), since a library's own message may quote a file."""
    if isinstance(error, EchoplaneError):
        return str(error)
    number = next((one.errno for one in chain(error) if isinstance(one, OSError) and one.errno), None)
    reason = "" if number is None else f"{'disk full' if number in FULL else os.strerror(number)}; "
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    return (
        f"failed unexpectedly ({reason}{type(error).__name__} at {place}); ECHOPLANE_DEBUG=1 shows the whole traceback."
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields `error` and what it was raised from or during, outermost first; a library may wrap the system's error."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
