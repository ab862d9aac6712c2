"""Opens a bundle as the service will, golden check and example included: `python -m serving.edge.check TASK FOLDER`.

It runs in a process of its own, which ends with the agent, so a model that crashes or hangs takes nothing else with it.
"""

import subprocess
import sys
from pathlib import Path

from echoplane.errors import EchoplaneError, explained
from echoplane.parent import start, stop

REFUSED = 1
REASON_LENGTH = 300


class Refused(EchoplaneError):
    """Raised if a bundle may not serve on this device."""


def check(task: str, folder: Path, timeout_s: float) -> None:
    """Raises Refused, with the reason, unless the bundle in `folder` opens and answers its example in time."""
    command = [sys.executable, "-m", "serving.edge.check", task, str(folder)]
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Refused(f"the check of the bundle did not end within {timeout_s:g} s.") from None
    finally:
        stop(process, grace_s=0)
        if process.stdout:
            process.stdout.close()
    if process.returncode == REFUSED:
        raise Refused(said.strip()[:REASON_LENGTH] or "the check of the bundle failed without a reason.")
    if process.returncode:
        raise Refused(f"the check of the bundle crashed with status {process.returncode}.")


def open_bundle(task: str, folder: Path) -> None:
    """Opens the bundle by the code of the service. Raises EchoplaneError if it would be refused there."""
    from serving.api.models.slots import load
    from serving.api.models.sources import FolderSource

    load(task, FolderSource(folder).latest(), {}).runtime.close()


def main(arguments: list[str]) -> int:
    try:
        open_bundle(arguments[0], Path(arguments[1]))
    except Exception as error:  # a runtime may raise anything
        sys.stdout.write(explained(error))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
