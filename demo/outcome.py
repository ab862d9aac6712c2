"""Results of a demo run, and their short form for other programs."""

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.client import Asked, times
from echoplane.stages.stage import Manifest


@dataclass(frozen=True)
class StageTime:
    """Duration of a stage in this run; `resumed` is true if an earlier run had finished it."""

    name: str
    seconds: float
    resumed: bool


@dataclass(frozen=True)
class Outcome:
    """Results of one run: the manifests of the steps and the service's answers."""

    manifests: dict[str, Manifest]
    times: list[StageTime]
    asked: list[Asked]
    metrics: dict[str, float]
    seconds: float
    before: Path
    """Synthetic file from which `asked[0]` was de-identified."""

    @functools.cached_property
    def evaluation(self) -> dict[str, Any]:
        return self._read("evaluate", "evaluation.json")

    @functools.cached_property
    def training(self) -> dict[str, Any]:
        return self._read("train", "training.json")

    @functools.cached_property
    def decision(self) -> dict[str, Any]:
        return self._read("promote", "decision.json")

    @functools.cached_property
    def report(self) -> dict[str, Any]:
        """Returns the content of `report.json`."""
        accuracy = self.evaluation["figures"]["accuracy"]
        return {
            "schema": 1,
            "accuracy": accuracy["value"],
            "accuracy_low": accuracy["low"],
            "accuracy_high": accuracy["high"],
            "n_test_patients": self.evaluation["patients"],
            "n_test_clips": self.evaluation["clips"],
            "seconds": round(self.seconds, 1),
            "stages": [asdict(stage) for stage in self.times],
            "gate": {name: self.decision[name] for name in ("passed", "reasons", "champion")},
            "http_ms": times(self.asked),
            "skew_max": max(clip.skew for clip in self.asked),
            "data_digest": self.evaluation["data_digest"],
            "split_id": self.evaluation["split_id"],
            "bundle_id": self.evaluation["bundle_id"],
            "steps": self.training["steps"],
            "runtime": self.evaluation["runtime"],
            "precision": self.evaluation["precision"],
        }

    def _read(self, stage: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.manifests[stage].path / name).read_bytes())
        return found
