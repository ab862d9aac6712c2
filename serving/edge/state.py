"""State that a device keeps between starts. If it is lost or damaged, checks are repeated; the service goes on."""

import uuid
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from echoplane.edge.fleet import ServiceCounts, check_device
from echoplane.files import write_atomically


class Refusal(BaseModel):
    """A bundle that failed on this device; it is tried again in a later attempt of its roll-out."""

    model_config = ConfigDict(frozen=True)

    bundle: str
    attempt: int
    reason: str


class State(BaseModel):
    """State of a device."""

    model_config = ConfigDict(frozen=True)

    newest_time: datetime | None = None
    """Newest time that the clock has shown."""
    refusals: dict[str, Refusal] = {}
    """The last refusal of each task."""
    changes: dict[str, str] = {}
    """The last change of each task's bundle and its reason."""
    sent: dict[str, int] = {}
    """Number of bytes of each spooled file that were sent."""
    counted: dict[str, int] = {}
    """Number of bytes of each file of the prediction log whose answers were counted."""
    service: dict[str, dict[str, ServiceCounts]] = {}
    """Counts of the service's answers by task and bundle."""


def read_state(folder: Path) -> State:
    try:
        return State.model_validate_json((folder / "state.json").read_bytes())
    except (OSError, ValidationError):
        return State()


def write_state(folder: Path, state: State) -> None:
    write_atomically(folder / "state.json", state.model_dump_json(indent=1).encode())


def device_id(folder: Path, configured: str, invited: str = "") -> str:
    """Returns the configured id, or else the one that is kept in the folder: that of the first invitation, or a random
    one."""
    if configured:
        return check_device(configured)
    path = folder / "device"
    if not path.is_file() or not path.read_text().strip():
        write_atomically(path, f"{invited or f'edge-{uuid.uuid4()}'}\n".encode())
    return check_device(path.read_text().strip())
