"""The state of a monitor as bytes: a process that restarts goes on with the evidence that it had."""

import io
import json
import zipfile
from dataclasses import asdict
from typing import Any

import numpy as np

from echoplane.monitoring.drift import ALL, Alarm, LabelChange, TaskMonitor

ABOUT = "about"
SEPARATOR = "|"


def dumped(monitor: TaskMonitor) -> bytes:
    """Returns the state of `monitor`, without its reference."""
    arrays: dict[str, np.ndarray] = {}
    counts = {}
    for group, streams in monitor.groups.items():
        for number, name in enumerate(streams.names):
            key = f"{group}{SEPARATOR}{name}"
            counts[key] = streams.count
            arrays[f"pool{SEPARATOR}{key}"] = streams.pools[number]
            arrays[f"stakes{SEPARATOR}{key}"] = streams.stakes_SB[number]
            arrays[f"p_values{SEPARATOR}{key}"] = streams.p_values_NS[:, number]
    about = {
        "studies": monitor.studies,
        "window": monitor.window,
        "alarm": asdict(monitor.alarm) if monitor.alarm else None,
        "counts": counts,
    }
    arrays[ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


def restore(monitor: TaskMonitor, content: bytes) -> None:
    """Gives `monitor`, made from the same reference and seed, the state in `content`.

    Raises ValueError if the content is not the state of such a monitor.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            about = json.loads(arrays[ABOUT].tobytes())
            _restore(monitor, arrays, about)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise ValueError("the stored state is of another monitor, or damaged.") from error


def _restore(monitor: TaskMonitor, arrays: Any, about: dict[str, Any]) -> None:
    monitor.restart()
    for group in dict.fromkeys(key.rsplit(SEPARATOR, 1)[0] for key in about["counts"]):
        streams = monitor.groups.setdefault(group, monitor.new_streams(group))
        keys = [f"{group}{SEPARATOR}{name}" for name in streams.names]
        pools, stakes, p_values = (
            [arrays[f"{part}{SEPARATOR}{key}"] for key in keys] for part in ("pool", "stakes", "p_values")
        )
        streams.restore(pools, np.stack(stakes), np.stack(p_values, axis=1), about["counts"][keys[0]])
    monitor.studies, monitor.window = about["studies"], about["window"]
    if alarm := about["alarm"]:
        label = LabelChange(**alarm.pop("label")) if alarm["label"] else None
        before = alarm.pop("group", ALL)  # states of versions that named one group
        groups = tuple(alarm.pop("groups", () if before == ALL else (before,)))
        monitor.alarm = Alarm(**{**alarm, "label": label, "groups": groups})
