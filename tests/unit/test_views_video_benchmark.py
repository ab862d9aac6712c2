"""The benchmark of echo-view-video renders, trains, scores and seals, at a size of seconds."""

import functools
import json

import cv2
import numpy as np
import pytest

from benchmarks import results, views_clips, views_video, views_video_card, views_video_scores
from benchmarks.views_clips import Clips
from benchmarks.views_scores import MAX_WRONG
from echoplane import runtimes
from echoplane.dataset.shards import read_shards
from echoplane.evaluation.intervals import bootstrap
from echoplane.phantom import USUAL
from echoplane.tasks import view_video
from echoplane.tasks.view_video.learning import UNLABELLED, Network


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two groups to train on, two patients to calibrate on, one per set to test, and one that is written as DICOM."""
    monkeypatch.setattr(views_clips, "PART", 1)
    monkeypatch.setattr(views_clips, "TRAIN", Clips(range(4, 6), training=True))
    monkeypatch.setattr(views_clips, "VALIDATION", Clips(range(8, 10)))
    monkeypatch.setattr(
        views_video, "TESTS", {name: Clips(range(12, 13), clips.ranges) for name, clips in views_clips.TESTS.items()}
    )
    monkeypatch.setattr(views_video, "WORK", tmp_path / "work")
    monkeypatch.setattr(views_video, "NETWORK", Network(width=8))
    short = views_video.CONFIG.model_copy(update={"steps": 2, "epoch_steps": 2, "batch": 4})
    monkeypatch.setattr(views_video, "CONFIG", short)
    monkeypatch.setattr(views_video_scores, "SHIPPED", tmp_path / "models" / "echo-view-video")
    monkeypatch.setattr(results, "MEASURED", tmp_path / "bench")
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(views_video_scores, "bootstrap", functools.partial(bootstrap, resamples=20))
    monkeypatch.setattr(views_video_scores, "PATIENTS", range(60_000, 60_001))
    monkeypatch.setattr(views_video_scores, "PER_KIND", 1)
    return tmp_path


def test_a_clip_is_what_the_task_prepares_and_the_heart_moves() -> None:
    heart = views_clips.make_patient(5, USUAL).heart
    one, again, other = (views_clips.clip(heart, "a4c", USUAL, (seed,)) for seed in (1, 1, 2))
    assert one.shape == (views_clips.INPUT.frames, views_clips.RENDERED, views_clips.RENDERED)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.abs(np.diff(one.astype(int), axis=0)).mean() > 0.35


@pytest.mark.parametrize("seed", range(12))
def test_a_clip_without_a_view_keeps_its_size_and_is_no_heart(seed: int) -> None:
    heart = np.random.default_rng(0).integers(0, 200, (8, 96, 96)).astype(np.uint8)
    found = views_clips.without_view(heart, np.random.default_rng(seed))
    assert found.shape == heart.shape
    assert not np.array_equal(found, heart)


def test_no_patient_is_in_two_sets(small) -> None:
    folder = small / "samples"
    digest = views_clips.dataset(folder)
    shards = read_shards(folder)  # refuses a patient in both splits
    train = shards.rows_of("train")
    assert len(train) == 2 * 15
    assert (shards.index["label"][train] == UNLABELLED).sum() == 2
    assert len(set(shards.index["patient"][train])) == 28
    assert len(set(shards.index["patient"][shards.rows_of("validation")])) == 2
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "train").glob("*.npy")}
    assert views_clips.dataset(folder) == digest
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "train").glob("*.npy")} == before


def test_the_sets_that_train_choose_and_test_share_no_heart() -> None:
    seeds = [
        set(range(12 * c.groups.start, 12 * c.groups.stop))
        for c in (views_clips.TRAIN, views_clips.VALIDATION, *views_clips.TESTS.values())
    ]
    seeds.append(set(views_video_scores.PATIENTS))
    assert max(map(max, seeds)) < views_clips.SECOND_HEARTS
    assert sum(map(len, seeds)) == len(set.union(*seeds))
    assert all(len(c.groups) % views_clips.PART == 0 for c in (views_clips.TRAIN, views_clips.VALIDATION))


def test_shipping_seals_a_bundle_that_answers_with_all_figures_on_its_card(small) -> None:
    camus, work = small / "camus", views_video.WORK
    camus.mkdir()
    rng = np.random.default_rng(0)
    for number in range(1, 5):
        for view in ("a2c", "a4c"):
            picture = cv2.GaussianBlur(rng.integers(0, 255, (90, 120)).astype(np.uint8), (0, 0), 3)
            cv2.imwrite(str(camus / f"{view}__patient{number:04d}_ED.png"), picture)
    training = views_video.trained()
    folder, done = views_video.exported(training)
    shards = read_shards(work / "samples")
    made = views_video.made(training, done)
    chosen = views_video_scores.chosen_on(folder, made, camus, shards)
    assert chosen["choose"]["wrong"] <= MAX_WRONG
    assert chosen["validation"]["wrong"] <= MAX_WRONG
    views_video_scores.ship(folder, made, views_video.test_sets(), camus, shards, work)
    report = json.loads((work / "shipped.json").read_text())
    for name, found in report["sets"].items():
        assert found["right"] + found["wrong"] + found["no label"] == pytest.approx(1, abs=1e-3), name
    assert report["sets"]["CAMUS odd"]["patients"] == report["sets"]["CAMUS even"]["patients"] == 2
    model = runtimes.open(views_video_scores.SHIPPED, runtimes.InferenceSettings())
    assert model.thresholds.abstain_below == chosen["thresholds"]["abstain_below"]  # type: ignore[attr-defined]
    assert set(model.thresholds.label_thresholds) == {"a4c", "a2c"}  # type: ignore[attr-defined]
    shares = model.thresholds.trained_shares  # type: ignore[attr-defined]
    often = {name: share / shares["plax"] for name, share in shares.items() if name in ("a4c", "a2c", "a5c")}
    assert often == pytest.approx({"a4c": 2 * np.exp(1.0), "a2c": 2 * np.exp(0.5), "a5c": 1}, rel=0.01)
    probabilities = runtimes.answer(view_video.example(1), model).result.probabilities  # type: ignore[union-attr]
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    card = (views_video_scores.SHIPPED / "card.md").read_text()
    assert "no real picture was learnt from" in card
    assert "CC BY-NC-SA" in card
    assert all(text in card for text in views_video_card.ABOUT.values())
    assert report["outside"]["black"]["label"] == 0
    page = results.PAGE.read_text()
    assert all(text in page for text in views_video_card.ABOUT.values())
    assert "at least 98.8, 98.7, 98.7, 98.7" in page
