"""Counts what the service of the device answers with each bundle, from the prediction log that the service spools.

The counts hold numbers alone: no patient, no study, no answer. They go into the device's report, and the publisher
compares those of an offered bundle with those of the stable one.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from echoplane.edge.fleet import LATENCY_MS, ServiceCounts
from echoplane.monitoring.agreement import Agreement
from echoplane.monitoring.prediction_log import SUFFIX, Row
from serving.edge.sync import next_part

TOTAL, UPLOAD = "total", "upload"

Counts = dict[str, ServiceCounts]
"""Counts by bundle."""


def started(
    known: Mapping[str, ServiceCounts], bundle: str, attempt: int, kept: Collection[str | None], now: datetime
) -> Counts:
    """Returns the counts of the `kept` bundles, with those of `bundle` begun at `now` if it is new or is tried again in
    a later attempt. `attempt` is 0 for a stable bundle, whose counts go on."""
    counts = {name: one for name, one in known.items() if name in kept}
    if bundle not in counts or attempt > counts[bundle].attempt:
        counts[bundle] = ServiceCounts(bundle=bundle, attempt=attempt, since=now)
    return counts


def added(counts: Mapping[str, ServiceCounts], rows: Iterable[Row]) -> Counts:
    """Returns the counts with `rows` added; rows of other bundles, or of before the bundle was taken, do not count."""
    found = dict(counts)
    for row in rows:
        one = found.get(row.bundle)
        if one is not None and row.time >= one.since:
            found[row.bundle] = _with(one, row)
    return found


def with_feedback(counts: Mapping[str, ServiceCounts], told: Mapping[str, Agreement]) -> Counts:
    """Returns the counts with what people said of each bundle's answers."""
    found = {bundle: told.get(bundle, Agreement(0, 0)) for bundle in counts}
    said = {bundle: {"told": one.studies, "wrong": one.studies - one.agreeing} for bundle, one in found.items()}
    return {bundle: one.model_copy(update=said[bundle]) for bundle, one in counts.items()}


def new_rows(folder: Path, positions: Mapping[str, int]) -> Iterator[tuple[list[Row], dict[str, int]]]:
    """Yields parts of the log after `positions` (bytes read of each file): the rows, and the positions after them. A
    line that is no row is passed over."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    after = {path.name: positions.get(path.name, 0) for path in paths}
    for path in paths:
        while part := next_part(path, after[path.name]):
            after[path.name] += len(part)
            yield _rows(part), dict(after)


def _with(counts: ServiceCounts, row: Row) -> ServiceCounts:
    latency = list(counts.latency)
    latency[bisect_left(LATENCY_MS, row.timings_ms.get(TOTAL, 0) - row.timings_ms.get(UPLOAD, 0))] += 1
    changed = {"answers": counts.answers + 1, "abstained": counts.abstained + (row.label is None)}
    return counts.model_copy(update=changed | {"latency": tuple(latency)})


def _rows(content: bytes) -> list[Row]:
    rows = []
    for line in content.splitlines():
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError:
            continue
    return rows
