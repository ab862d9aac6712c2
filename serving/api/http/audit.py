"""Audit log: one line per request with the caller, its role, the task, the model and the outcome.

A line holds no patient data and no digest of a file: with a digest, anyone who has the file could find its line.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger("echoplane.audit")


def note(state: dict[str, Any], task: str | None, model: str | None, outcome: str) -> None:
    """Notes the outcome of one study, or of the whole request."""
    state.setdefault("outcomes", []).append({"task": task, "model": model, "outcome": outcome})


def write(state: dict[str, Any], method: str, route: str, status: int) -> None:
    caller = state.get("caller")
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": state["request_id"],
        "caller": caller.name if caller else None,
        "site": caller.site if caller else None,
        "roles": sorted(caller.roles) if caller else [],
        "method": method,
        "route": route,
        "status": status,
        "outcomes": state.get("outcomes", []),
    }
    log.info("audit %s", json.dumps(line, separators=(",", ":")))
