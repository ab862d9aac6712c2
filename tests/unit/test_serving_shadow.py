"""A challenger in the shadow, and a start from the local copy while the registry is unavailable."""

import contextlib
import io
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echoplane import bundle as bundles
from echoplane import runtimes
from echoplane.adapters.registry import CHALLENGER, CHAMPION, Version
from echoplane.bundle import Bundle
from echoplane.errors import RegistryUnavailable
from echoplane.monitoring import metrics
from echoplane.study.dicom import read_dicom
from serving.api.models.shadow import MAX_STUDY_BYTES, MAX_WAITING, Shadow
from serving.api.models.slots import Slot
from serving.api.models.sources import RegistrySource
from tests import dicom_files as dicom
from tests.tiny_bundle import TASK, make_tiny_bundle
from tests.trusting import ANYONE

EVALUATED = {"runtime": "openvino", "precision": "f32", "threads": "1", "device": "cpu"}


class RegistryDouble:
    """A registry without a server: aliases, downloads of whole folders, and being unavailable."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders, self.aliases = folders, {}
        self.available, self.downloads = True, 0

    def by_alias(self, task: str, alias: str) -> Version | None:
        self._check()
        number = self.aliases.get(alias)
        return Version(task, number, bundles.read(self.folders[number]).id, EVALUATED) if number else None

    def download(self, version: Version, folder: Path) -> Bundle:
        self._check()
        self.downloads += 1
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folders[version.number], folder)
        return bundles.read(folder)

    def _check(self) -> None:
        if not self.available:
            raise RegistryUnavailable("the MLflow server can't be reached (ConnectionError).")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return {str(seed): make_tiny_bundle(root / str(seed), seed) for seed in (1, 2)}


@pytest.fixture
def registry(folders: dict[str, Path]) -> RegistryDouble:
    return RegistryDouble(folders)


@pytest.fixture
def shadow(registry: RegistryDouble) -> Iterator[Shadow]:
    registry.aliases = {CHALLENGER: "2"}
    shadow = Shadow(TASK, RegistrySource(TASK, lambda: registry, CHALLENGER, trust=ANYONE), {}, share=0.9)
    shadow.refresh()
    yield shadow
    shadow.close()


def clip() -> io.BytesIO:
    return io.BytesIO(dicom.jpeg_clip())


def counted(version: str = "2") -> dict[str, float]:
    samples = [sample for metric in metrics.SHADOW.collect() for sample in metric.samples]
    return {s.labels["outcome"]: s.value for s in samples if s.labels["version"] == version and "_total" in s.name}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_challenger_answers_after_the_champion_and_agreement_is_counted(shadow: Shadow) -> None:
    assert shadow.model is not None
    label, before = runtimes.answer(read_dicom(dicom.jpeg_clip()), shadow.model).result.label, counted()
    shadow.offer(clip(), label)
    wait_until(lambda: counted().get("agreed", 0) == before.get("agreed", 0) + 1)
    shadow.offer(clip(), "another label")
    wait_until(lambda: counted().get("differed", 0) == before.get("differed", 0) + 1)


def test_offering_never_waits_and_what_does_not_fit_is_dropped(shadow: Shadow) -> None:
    study, before = clip(), counted().get("dropped", 0)
    too_large = io.BytesIO(bytes(MAX_STUDY_BYTES + 1))
    with shadow._in_use:  # the challenger is busy
        start = time.monotonic()
        for _ in range(50):
            shadow.offer(study, None)
        shadow.offer(too_large, None)
        assert time.monotonic() - start < 1
        assert counted()["dropped"] - before >= 51 - MAX_WAITING - 1


def test_a_challenger_that_fails_is_counted_and_goes_on(shadow: Shadow, caplog: pytest.LogCaptureFixture) -> None:
    assert shadow.model is not None
    run, before = shadow.model.runtime.run, counted().get("failed", 0)

    def fail(_: np.ndarray) -> Any:
        raise RuntimeError(dicom.PATIENT)

    shadow.model.runtime.run = fail
    shadow.offer(clip(), None)
    wait_until(lambda: counted().get("failed", 0) == before + 1)
    assert dicom.PATIENT not in caplog.text
    shadow.model.runtime.run = run
    done = sum(counted().get(name, 0) for name in ("agreed", "differed"))
    shadow.offer(clip(), None)
    wait_until(lambda: sum(counted().get(name, 0) for name in ("agreed", "differed")) == done + 1)


def test_a_challenger_goes_when_its_alias_does(shadow: Shadow, registry: RegistryDouble) -> None:
    assert shadow.model is not None
    registry.available = False
    shadow.refresh()
    assert shadow.model is not None, "an unavailable registry takes nothing away"
    registry.available, registry.aliases = True, {}
    shadow.refresh()
    assert shadow.model is None
    shadow.offer(clip(), None)


@contextlib.contextmanager
def started(registry: RegistryDouble, cache: Path) -> Iterator[Slot]:
    """A slot of a service that has just started."""
    slot = Slot(TASK, RegistrySource(TASK, lambda: registry, cache=cache, trust=ANYONE), {})
    slot.refresh()
    yield slot
    slot.close()


def test_a_service_starts_from_the_local_copy_while_the_registry_is_unavailable(
    registry: RegistryDouble, folders: dict[str, Path], tmp_path: Path
) -> None:
    registry.aliases = {CHAMPION: "1"}
    with started(registry, tmp_path / "cache") as slot:
        assert (slot.model is not None, slot.stale) == (True, False)
    registry.available = False
    with started(registry, tmp_path / "cache") as slot:
        assert slot.model is not None
        assert slot.model.bundle.id == bundles.read(folders["1"]).id
        assert slot.stale
        assert "local copy" in (slot.problem or "")
        registry.available = True
        slot.refresh()
        assert (slot.stale, slot.problem, registry.downloads) == (False, None, 1)
        registry.aliases = {CHAMPION: "2"}
        slot.refresh()
        assert slot.model.bundle.id == bundles.read(folders["2"]).id
    kept = [folder.name for folder in (tmp_path / "cache").iterdir() if folder.is_dir()]
    assert kept == [bundles.read(folders["2"]).id]


def test_a_local_copy_that_was_changed_is_not_served(registry: RegistryDouble, tmp_path: Path) -> None:
    registry.aliases = {CHAMPION: "1"}
    with started(registry, tmp_path / "cache"):
        pass
    (model,) = (tmp_path / "cache").glob("*/model.onnx")
    model.write_bytes(model.read_bytes()[:-1] + b"\1")
    registry.available = False
    with started(registry, tmp_path / "cache") as slot:
        assert slot.model is None
    registry.available = True
    with started(registry, tmp_path / "cache") as slot:
        assert (slot.model is not None, registry.downloads) == (True, 2)


def test_without_a_cache_nothing_is_kept(registry: RegistryDouble, tmp_path: Path) -> None:
    registry.aliases = {CHAMPION: "1"}
    slot = Slot(TASK, RegistrySource(TASK, lambda: registry, trust=ANYONE), {})
    slot.refresh()
    assert slot.model is not None
    slot.close()
    registry.available = False
    slot = Slot(TASK, RegistrySource(TASK, lambda: registry, trust=ANYONE), {})
    slot.refresh()
    assert slot.model is None
