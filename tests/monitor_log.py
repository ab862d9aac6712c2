"""A prediction log and a reference with random values, for tests of the monitor."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from echoplane.monitoring.prediction_log import Row, packed
from echoplane.monitoring.reference import Reference, reference_of
from echoplane.tasks import BUILT_IN

TASK = BUILT_IN[0]
BUNDLE = "b" * 64
LABELS = ("PLAX", "A4C", "A2C")
START = datetime(2026, 11, 1, tzinfo=UTC)
ACCEPTED = 400


def make_rows(
    count: int,
    *,
    first: int = 0,
    shift: float = 0.0,
    bundle: str = BUNDLE,
    site: str = "lakeside",
    device: tuple[str, str] = ("", ""),
) -> list[Row]:
    """Returns rows whose brightness is normal, `shift` standard deviations off; the seed is the first row's number."""
    rng = np.random.default_rng(first)
    return [
        Row(
            time=START + timedelta(seconds=number),
            request_id=f"r{number}",
            task=TASK,
            model_version="3",
            bundle=bundle,
            site=site,
            manufacturer=device[0],
            device_model=device[1],
            label=str(rng.choice(LABELS)),
            confidence=float(rng.uniform(0.5, 1)),
            features={"brightness": 0.3 + 0.05 * float(rng.normal(shift)), "contrast": float(rng.normal())},
            embedding=packed(rng.normal(size=8)),
            timings_ms={"total": 12.0},
            warnings=0,
        )
        for number in range(first, first + count)
    ]


def make_reference(count: int = ACCEPTED) -> Reference:
    rows = make_rows(count, first=1_000_000)
    rng = np.random.default_rng(7)
    names = rows[0].features
    return reference_of(
        [row.confidence for row in rows],
        [row.label for row in rows],
        {name: [row.features[name] for row in rows] for name in names},
        rng.normal(size=(count, 8)).astype(np.float32),
    )


def append(folder: Path, rows: list[Row], name: str = "predictions-1.jsonl") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a") as file:
        file.write("".join(f"{row.model_dump_json()}\n" for row in rows))


def notification(status: str, task: str, since: datetime, name: str = "EchoplaneDrift") -> dict:
    """Returns a body of Alertmanager's webhook."""
    labels = {"alertname": name, "task": task, "version": "3", "retrain": "true"}
    alert = {"status": status, "labels": labels, "startsAt": since.isoformat(), "endsAt": since.isoformat()}
    return json.loads(json.dumps({"version": "4", "status": status, "alerts": [alert]}))
