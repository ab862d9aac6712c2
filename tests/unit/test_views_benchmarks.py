"""What the benchmark of the echo views does to pictures and scores; nothing here trains."""

import json

import cv2
import numpy as np
import pytest
import torch

from benchmarks import (
    views_controls,
    views_not_hearts,
    views_outside,
    views_pictures,
    views_scores,
    views_stills,
    views_training,
)
from benchmarks.views_pictures import Pictures
from benchmarks.views_stills import Clips
from echoplane import runtimes
from echoplane.dataset.shards import Shards, read_shards
from echoplane.phantom import USUAL
from echoplane.phantom.strip_screen import STRIP_NAMES as STRIPS
from echoplane.tasks import view_image
from echoplane.tasks.view_image import learning


def sectors(count: int) -> torch.Tensor:
    polar = np.random.default_rng(0).integers(30, 200, (count, 40, 60)).astype(np.uint8)
    return torch.from_numpy(np.stack([views_pictures.sector(p, 0.7) for p in polar]))


def test_a_sector_fills_its_bounding_box_and_is_black_outside() -> None:
    picture = views_pictures.sector(np.full((40, 60), 99, np.uint8), 0.6)
    assert picture.shape == (120, 160)
    assert picture[0].max() in (0, 99)
    assert (picture[100:118, 70:90] == 99).all()
    assert picture[40, :40].max() == 0
    assert np.flatnonzero((picture > 0).any(axis=1))[[0, -1]].tolist() == [1, 119]


def test_a_sector_with_a_curved_upper_edge_still_fills_its_box() -> None:
    polar = np.tile(np.arange(100, 160, dtype=np.uint8), (40, 1))
    whole, cut = (views_pictures.sector(polar, 0.6, near) for near in (0.0, 0.1))
    for picture in (whole, cut):
        rows = np.flatnonzero((picture > 0).any(axis=1))
        assert rows[0] <= 1
        assert rows[-1] >= 118
    assert whole[whole > 0].min() <= 101
    assert cut[cut > 0].min() == pytest.approx(106, abs=2)


def test_the_halves_of_camus_share_no_patient(tmp_path) -> None:
    for number in range(1, 7):
        for view in ("a2c", "a4c"):
            cv2.imwrite(
                str(tmp_path / f"{view}__patient{number:04d}_ED.png"), np.full((90, 120), 10 * number, np.uint8)
            )
    (chosen, odd), (reported, even) = (views_pictures.camus(tmp_path, half) for half in ("choose", "report"))
    assert set(odd) == {1, 3, 5}
    assert set(even) == {2, 4, 6}
    assert len(chosen.label_N) == len(reported.label_N) == 6
    assert {view_image.names()[k] for k in chosen.label_N} == {"a2c", "a4c"}


def test_the_input_of_the_network_is_the_mean_of_four_pixels() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (3, 120, 160)).astype(np.uint8)
    small = views_pictures.inputs(grey)
    assert small.shape == (3, 60, 80)
    assert small.dtype == np.uint8
    assert small[1, 2, 3] == grey[1, 4:6, 6:8].sum(dtype=int) // 4


def test_pictures_without_a_view_differ_and_vessels_are_dark_in_brighter_tissue() -> None:
    rng, hearts = np.random.default_rng(0), sectors(24).numpy()
    drawn = [views_not_hearts.without_view(heart, rng) for heart in hearts]
    assert {(picture.shape, picture.dtype.name) for picture in drawn} == {((120, 160), "uint8")}
    assert len({picture.tobytes() for picture in drawn}) == 24
    assert not any(np.array_equal(picture, heart) for picture, heart in zip(drawn, hearts, strict=True))
    vessels = [np.clip(views_not_hearts.vessel((120, 160), rng), 0, 255) for _ in range(12)]
    assert all(np.percentile(v, 98) - np.percentile(v[v > 0], 5) > 40 for v in vessels)


def test_the_data_set_holds_apical_views_twice_strips_in_every_second_group_and_pictures_without_a_view(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(views_stills, "TRAIN", range(40000, 40004))
    monkeypatch.setattr(views_stills, "VALIDATION", range(43000, 43002))
    monkeypatch.setattr(views_stills, "PART", 2)
    views_stills.dataset(tmp_path)
    shards = read_shards(tmp_path)
    labels = shards.index["label"][shards.rows_of("train")]
    count = np.bincount(labels[labels >= 0], minlength=15)
    assert dict(zip(view_image.names(), count.tolist(), strict=True)) == {
        name: 2 if name in STRIPS else 8 if name in views_stills.TWICE else 4 for name in view_image.names()
    }
    assert (labels == learning.UNLABELLED).sum() == 4 * views_stills.NOTHING
    assert len(shards.rows_of("validation")) == 2 * 18 + 3
    assert shards.sample(0).shape == (60, 80)
    pictures = {shards.sample(row).tobytes() for row in range(len(shards.index["label"]))}
    assert len(pictures) == len(shards.index["label"])
    shares = views_training.trained_shares(shards)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    seen = views_training.validation(shards)
    assert (seen.label_N >= 0).all()
    assert np.array_equal(views_pictures.inputs(seen.grey_NHW)[0], shards.sample(shards.rows_of("validation")[0]))


def test_a_clip_of_a_test_has_one_heart_at_several_phases(tmp_path) -> None:
    path = tmp_path / "clips.npz"
    found = views_stills.clips(path, range(9400, 9401), USUAL)
    assert found.pictures.grey_NHW.shape == (96, 120, 160)
    assert found.pictures.label_N[::8].tolist() == list(range(12))
    assert found.patient_N.tolist() == [0] * 12
    again = views_stills.clips(path, range(9400, 9401), USUAL)
    assert np.array_equal(again.pictures.grey_NHW, found.pictures.grey_NHW)


def test_a_clip_s_answer_is_the_mean_probability_of_its_frames() -> None:
    logits = np.zeros((4, 15))
    logits[0, 4], logits[1, 6], logits[2:, 2] = 2, 9, 1
    scored = views_scores.of_clips(logits, 2, 1.0)
    assert scored.argmax(axis=1).tolist() == [6, 2]
    assert np.exp(scored).sum(axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize(("confidence", "expected"), [([0.9, 0.8, 0.7, 0.6] * 5, 0.9), ([0.9] * 20, 1.0)])
def test_the_threshold_leaves_few_wrong_with_a_label(confidence: list[float], expected: float) -> None:
    wrong_below = np.array(confidence) > 0.85
    correct = wrong_below if expected == 0.9 else np.zeros(20, bool)
    found = views_scores.threshold(np.array(confidence), correct)
    assert found == expected
    assert ((np.array(confidence) >= found) & ~correct).mean() <= views_scores.MAX_WRONG


def test_members_of_an_ensemble_are_loaded_in_their_places() -> None:
    members = [learning.network(learning.Network()).state_dict() for _ in range(2)]
    data = Pictures(sectors(4).numpy(), np.zeros(4, int))
    single = [views_scores.logits([weights], learning.Network(), data) for weights in members]
    both = views_scores.logits(members, learning.Network(), data)
    assert np.allclose(both, np.mean(single, axis=0), atol=1e-4)


def test_declared_shares_favour_the_views_that_occur_often() -> None:
    shares = dict(zip(view_image.names(), np.exp(views_scores.declared()), strict=True))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a4c"] == pytest.approx(4 * shares["a5c"])


def test_shares_of_training_count_raised_logits(monkeypatch) -> None:
    monkeypatch.setattr(views_training, "ADJUSTED", {"a5c": np.log(3)})
    labels = np.array([*range(15), view_image.names().index("a4c"), -1])
    shards = Shards({"label": labels, "split": np.full(17, "train")}, ())
    shares = views_training.trained_shares(shards)
    assert shares["a4c"] == pytest.approx(2 / 18, abs=1e-4)
    assert shares["a5c"] == pytest.approx(3 / 18, abs=1e-4)
    a4c = view_image.names().index("a4c")
    assert views_scores.declared(shares)[a4c] - views_scores.declared()[a4c] == pytest.approx(-np.log(2 / 18), abs=1e-3)


def test_an_adjusted_network_has_higher_logits_by_the_stated_changes(monkeypatch) -> None:
    monkeypatch.setattr(views_training, "ADJUSTED", {"a5c": 0.4})
    weights = learning.network(learning.Network(width=4)).eval().state_dict()
    data = Pictures(sectors(3).numpy(), np.zeros(3, int))
    before, after = (
        views_scores.logits([each], learning.Network(width=4), data)
        for each in (weights, views_training.adjusted(weights))
    )
    expected = [views_training.ADJUSTED.get(name, 0.0) for name in view_image.names()]
    assert np.allclose(after - before, [expected], atol=1e-5)


def test_shipping_seals_a_bundle_that_answers_and_scores_the_other_half_once(tmp_path, monkeypatch) -> None:
    camus, shipped = tmp_path / "camus", tmp_path / "models" / "echo-view-image"
    camus.mkdir()
    monkeypatch.setattr(views_scores, "SHIPPED", shipped)
    for k, grey in enumerate(sectors(8).numpy()):
        cv2.imwrite(str(camus / f"{'a2c' if k % 2 else 'a4c'}__patient{k // 2 + 1:04d}_ED.png"), grey)
    members = [learning.network(learning.Network()).state_dict() for _ in range(2)]
    unseen = {name: Pictures(sectors(30).numpy(), np.arange(30) % 15) for name in ("phantom", "field")}
    clips = {"usual clips": Clips(Pictures(sectors(32).numpy(), np.repeat(np.arange(4), 8)), np.array([0, 0, 1, 1]))}
    made = {"seeds": [0, 1], "minutes": 1.5, "steps": 90, "batch": 32, "pictures": 8000, "outliers": 9}
    made |= {"adjusted": {"a4c": 0.5, "a2c": 0.4}, "exponent": 0.7}
    made["trained_shares"] = dict.fromkeys(view_image.names(), 1 / 15)
    network = learning.Network(exponent=0.7)
    views_scores.ship(members, network, made, unseen["phantom"], unseen, clips, camus, tmp_path)
    sets = json.loads((tmp_path / "shipped.json").read_text())["sets"]
    assert sets["report"]["patients"] == sets["choose"]["patients"] == 2
    assert (sets["usual clips"]["stills"], sets["usual clips"]["patients"]) == (4, 2)
    assert sets["phantom"]["wrong"] <= views_scores.MAX_WRONG
    assert sets["choose"]["wrong"] <= views_scores.MAX_WRONG
    for name in ("report", "usual clips"):
        assert sum(sets[name][share] for share in ("right", "wrong", "no label")) == pytest.approx(1, abs=0.01)
    model = runtimes.open(shipped, runtimes.InferenceSettings())
    result = runtimes.answer(view_image.example(1), model).result
    assert sum(result.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert sum(path.stat().st_size for path in shipped.iterdir()) < 10e6
    card = (shipped / "card.md").read_text()
    assert "CC BY-NC-SA" in card
    assert "A4C by 0.5, A2C by 0.4" in card
    assert "| synthetic clips, usual ranges | 4 | 2 |" in card
    assert model.thresholds.trained_shares == made["trained_shares"]  # type: ignore[attr-defined]
    assert set(model.thresholds.label_thresholds) == {"a4c", "a2c"}  # type: ignore[attr-defined]


def test_a_masked_sector_keeps_its_outline_alone() -> None:
    data = Pictures(sectors(3).numpy(), np.zeros(3, int))
    masked = views_controls.masked(data).grey_NHW
    assert set(np.unique(masked)) == {0, 90}
    assert np.array_equal(masked > 0, data.grey_NHW > 0)


def test_the_header_alone_tells_strips_and_no_view_of_tissue() -> None:
    data = Pictures(np.zeros((15, 120, 160), np.uint8), np.arange(15))
    correct = views_controls.header_alone(data) == data.label_N
    assert correct.tolist() == [True] + [False] * 11 + [True] * 3


@pytest.mark.parametrize("kind", views_outside.KINDS)
def test_a_picture_without_a_view_is_drawn_anew_each_time_and_read_as_a_still_or_clip(kind: str) -> None:
    rng, heart = np.random.default_rng(0), sectors(1).numpy()[0]
    first, second = (views_outside.KINDS[kind](rng, heart) for _ in range(2))
    study = views_outside.study_of(first)
    assert first.dtype == np.uint8
    assert study.only.frame_count == (12 if kind.startswith("frozen") else 1)
    assert kind in ("black", "white", "frozen clips of hearts") or not np.array_equal(first, second)
