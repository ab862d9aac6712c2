"""Checkpoints of a training that is killed: each counts from the moment at which it lies on the storage."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from echoplane.adapters.ray_training import (
    CHECKPOINTS,
    Job,
    _progress,
    latest_checkpoint,
    save_checkpoint,
    train_resumably,
)
from echoplane.stages import dataset
from echoplane.tasks.view_video import learning
from echoplane.training.checkpoint import State
from echoplane.training.config import TrainConfig
from tests.tiny_cohort import write_cohort

INTERVAL = 6
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    studies = write_cohort(root / "deid", patients=6, views=2)
    small = {"frames": 8, "size": 32}
    return dataset.run(dataset.Config(root=str(root), studies=str(studies), preprocessing=small, workers=1)).path


def job(samples: Path, steps: int) -> Job:
    return Job(
        task="echo-view-video",
        samples=str(samples),
        network=learning.Network(width=8, beta=4).model_dump(mode="json"),
        augmentation=learning.Augmentation().model_dump(mode="json"),
        training=TrainConfig(steps=steps, epoch_steps=INTERVAL, batch=2),
    )


def killed_after(job: Job, storage: Path, step: int) -> int:
    """Kills a process that trains once it has reached `step`; returns the last step that it reported."""
    process = multiprocessing.get_context("spawn").Process(target=train_resumably, args=(job, storage))
    process.start()
    while (done := _progress(storage, 0)[0]) < step:  # a spawned process: OpenCV's threads do not survive a fork
        assert process.is_alive(), f"training ended before step {step}"
        time.sleep(0.01)
    process.kill()
    process.join()
    return max(done, _progress(storage, 0)[0])


def test_k6_training_killed_at_random_steps_loses_at_most_one_interval_five_times_of_five(
    samples: Path, tmp_path: Path
) -> None:
    """Nobody but the worker that is killed knows of its checkpoints: there is no Ray controller here at all."""
    rng, lost = np.random.default_rng(6), []
    for _ in range(5):
        target = latest_checkpoint(tmp_path) + int(rng.integers(INTERVAL + 1, 3 * INTERVAL))
        reported = killed_after(job(samples, 4000), tmp_path, target)
        lost.append(reported - latest_checkpoint(tmp_path))
    assert max(lost) <= INTERVAL, lost
    assert latest_checkpoint(tmp_path) >= 5 * INTERVAL, "no run went on from the one before"


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    for steps in (20, 40, 60):
        save_checkpoint(State(steps=steps), tmp_path)
    assert latest_checkpoint(tmp_path) == 60
    assert sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir()) == ["000000040", "000000060"]


def test_a_checkpoint_that_was_being_written_does_not_count(tmp_path: Path) -> None:
    save_checkpoint(State(steps=20), tmp_path)
    partial = tmp_path / CHECKPOINTS / "000000040"
    partial.mkdir()
    (partial / ".state.pt.77").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) == 20
    assert latest_checkpoint(tmp_path / "none") == 0
