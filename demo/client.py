"""Requests to the service: every test clip over HTTP, compared with the result of the evaluation for the same clip."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq

from echoplane.errors import StageError

TASK = "echo-view-video"
SKEW_ALLOWED = 1e-6
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Asked:
    """One test clip: its row of the scores, its file, the service's answer and the response time."""

    scored: dict[str, Any]
    path: Path
    answer: dict[str, Any]
    elapsed_ms: float

    @property
    def skew(self) -> float:
        """Returns the largest difference between a served and an evaluated probability."""
        served = np.array(list(self.answer["probabilities"].values()))
        return float(np.abs(served - np.array(self.scored["probabilities"])).max())


def scored_clips(studies: Path, samples: Path, evaluation: Path) -> list[tuple[dict[str, Any], Path]]:
    """Returns each row of the scores with the clip's file, grouped by patient, patients with the most clips first."""
    uris = {row["sample"]: row["uri"] for row in pq.read_table(samples / "catalogue.parquet").to_pylist()}
    rows = pq.read_table(evaluation / "scores.parquet").to_pylist()
    clips = Counter(row["patient"] for row in rows)
    rows.sort(key=lambda row: (-clips[row["patient"]], row["patient"], row["truth"]))
    return [(row, studies / uris[row["sample"]]) for row in rows]


def ask_all(
    address: str, clips: list[tuple[dict[str, Any], Path]], progress: Callable[[int, int], None]
) -> list[Asked]:
    """Sends every clip, one after another over one connection. Raises StageError if an answer differs from the
    evaluation."""
    asked = []
    with httpx.Client(base_url=address, timeout=TIMEOUT_S) as client:
        for scored, path in clips:
            asked.append(_ask(client, scored, path))
            progress(len(asked), len(clips))
    _check(asked)
    return asked


def _ask(client: httpx.Client, scored: dict[str, Any], path: Path) -> Asked:
    content = path.read_bytes()
    start = time.perf_counter()
    response = client.post(f"/v1/{TASK}", files={"file": ("clip.dcm", content, "application/dicom")})
    elapsed_ms = 1000 * (time.perf_counter() - start)
    if response.status_code != 200:
        raise StageError(f"the service answered {response.status_code} to a test clip: {response.text[:300]}")
    return Asked(scored, path, response.json(), elapsed_ms)


def _check(asked: list[Asked]) -> None:
    other = [clip for clip in asked if clip.answer["label"] != clip.scored["label"]]
    skew = max(clip.skew for clip in asked)
    if other or skew > SKEW_ALLOWED:
        raise StageError(
            f"serving differs from evaluation: {len(other)} of {len(asked)} labels, probabilities by up to {skew:.1e}; "
            f"equal labels and at most {SKEW_ALLOWED:.0e} are needed."
        )


def times(asked: list[Asked]) -> dict[str, float]:
    """Returns percentiles in ms from sending a file to having its answer, without the first request, which is slower
    (cold start) and listed apart."""
    elapsed_ms = [clip.elapsed_ms for clip in asked]
    warm_ms = elapsed_ms[1:] or elapsed_ms
    return {
        "p50": round(float(np.percentile(warm_ms, 50)), 1),
        "p95": round(float(np.percentile(warm_ms, 95)), 1),
        "first": round(elapsed_ms[0], 1),
        "requests": len(asked),
    }


def metrics(address: str, names: tuple[str, ...]) -> dict[str, float]:
    """Returns the service's own metrics that begin with one of `names`, as Prometheus would scrape them."""
    text = httpx.get(f"{address}/metrics", timeout=TIMEOUT_S).raise_for_status().text
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(names))
    return {name: float(value) for name, value in samples}
