"""A registry without a server, for tests of who may change what serves: whoever holds it may change all of it."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from echoplane import bundle as bundles
from echoplane.adapters.promotions import Evidence
from echoplane.adapters.registry import BUNDLE_TAG, CHAMPION, RUN_TAG, Version
from echoplane.adapters.trust import decision_path
from echoplane.bundle import Bundle
from echoplane.errors import BundleError, RegistryUnavailable
from echoplane.files import digest_of
from tests.tiny_bundle import TASK

FIGURES = {"figures": {"accuracy": {"value": 0.91}}}
DECISION = {"passed": True, "reasons": []}
EVIDENCE = Evidence(digest_of(DECISION), digest_of(FIGURES))
TAGS = {"runtime": "openvino", "precision": "f32", "threads": "1", "device": "cpu", "figure.accuracy": "0.9100"}
RECORD = "a" * 64


@dataclass
class Client:
    """The methods of MLflow's client that promotion needs."""

    registry: "RegistryDouble"

    def set_registered_model_alias(self, _task: str, alias: str, number: str) -> None:
        self.registry.aliases[alias] = number

    def delete_registered_model_alias(self, _task: str, alias: str) -> None:
        self.registry.aliases.pop(alias, None)

    def log_dict(self, run: str, content: dict[str, Any], path: str) -> None:
        self.registry.artifacts[f"{run}/{path}"] = content

    def set_model_version_tag(self, _task: str, number: str, name: str, value: str) -> None:
        self.registry.tags[number][name] = value


@dataclass
class RegistryDouble:
    """Versions, aliases, tags and artifacts in memory."""

    folders: dict[str, Path]
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    available: bool = True

    @property
    def client(self) -> Client:
        return Client(self)

    def add(self, number: str) -> Version:
        self.tags[number] = TAGS | {BUNDLE_TAG: bundles.read(self.folders[number]).id, RUN_TAG: f"run{number}"}
        self.artifacts[f"run{number}/evaluation/evaluation.json"] = FIGURES
        self.artifacts[f"run{number}/{decision_path(EVIDENCE.decision)}"] = DECISION
        return self.version(number)

    def version(self, number: str) -> Version:
        tags = self.tags[number]
        return Version(TASK, number, tags[BUNDLE_TAG], dict(tags))

    def by_alias(self, _task: str, alias: str) -> Version | None:
        if not self.available:
            raise RegistryUnavailable("the MLflow server can't be reached (ConnectionError).")
        return self.version(self.aliases[alias]) if alias in self.aliases else None

    def champion(self, task: str) -> Version | None:
        return self.by_alias(task, CHAMPION)

    def by_number(self, _task: str, number: str) -> Version:
        if number not in self.tags:
            raise BundleError("the MLflow server refused or did not answer: RESOURCE_DOES_NOT_EXIST.")
        return self.version(number)

    def download(self, version: Version, folder: Path) -> Bundle:
        shutil.copytree(self.folders[version.number], folder, dirs_exist_ok=True)
        return bundles.read(folder)

    def download_artifact(self, run: str, path: str, folder: Path) -> Path:
        target = folder / "artifact.json"
        target.write_text(json.dumps(self.artifacts[f"{run}/{path}"]))
        return target
