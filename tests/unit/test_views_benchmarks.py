"""What the benchmark of the echo views does to pictures and scores; nothing here trains."""

import json

import cv2
import numpy as np
import pytest
import torch

from benchmarks import views_controls, views_outside, views_pictures, views_scores, views_training
from benchmarks.views_pictures import Pictures
from echoplane import runtimes
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


def test_a_batch_is_augmented_the_same_way_for_the_same_seed() -> None:
    recipe, grey = views_training.Recipe(), sectors(6)
    first, again, other = (views_training.Augment(seed, recipe)(grey) for seed in (1, 1, 2))
    assert first.shape == (6, 60, 80)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_outliers_are_pictures_of_the_network_s_size_and_differ() -> None:
    drawn = views_training.Augment(3, views_training.Recipe()).outliers(sectors(24), 24)
    assert drawn.shape == (24, 60, 80)
    assert drawn.min() >= 0
    assert drawn.max() <= 255
    assert len({float(picture.mean()) for picture in drawn}) > 12


def test_a_network_learns_to_tell_bright_pictures_from_dark_ones() -> None:
    """The loop of the benchmark moves the averaged weights too."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 64)
    grey = (rng.integers(0, 60, (64, 120, 160)) + 120 * label[:, None, None]).astype(np.uint8)
    recipe = views_training.Recipe(samples=320, batch=16, outliers=2, ema=0.5)
    module = views_training.fit(Pictures(grey, label), 0, learning.Network(width=4), recipe)
    small = torch.from_numpy(grey[:, ::2, ::2].copy())
    with torch.no_grad():
        assert (module(small)[0].argmax(dim=1).numpy() == label).mean() > 0.9


@pytest.mark.parametrize(("confidence", "expected"), [([0.9, 0.8, 0.7, 0.6] * 5, 0.9), ([0.9] * 20, 1.0)])
def test_the_threshold_leaves_few_wrong_with_a_label(confidence: list[float], expected: float) -> None:
    wrong_below = np.array(confidence) > 0.85
    correct = wrong_below if expected == 0.9 else np.zeros(20, bool)
    found = views_scores.threshold(np.array(confidence), correct)
    assert found == expected
    assert ((np.array(confidence) >= found) & ~correct).mean() <= 0.03


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


def test_frequent_views_are_shown_twice_and_counted_as_learnt(monkeypatch) -> None:
    monkeypatch.setattr(views_training, "ADJUSTED", {"a5c": np.log(3)})
    data = Pictures(sectors(15).numpy(), np.arange(15))
    recipe = views_training.Recipe(frequent=2)
    rows = views_training.shown(data, recipe).tolist()
    a2c, a4c = view_image.names().index("a2c"), view_image.names().index("a4c")
    assert len(rows) == 17
    assert rows.count(a4c) == rows.count(a2c) == 2
    shares = views_training.trained_shares(data, recipe)
    assert shares["a4c"] == pytest.approx(2 / 19, abs=1e-4)
    assert shares["a5c"] == pytest.approx(3 / 19, abs=1e-4)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert views_scores.declared(shares)[a4c] - views_scores.declared()[a4c] == pytest.approx(-np.log(2 / 19), abs=1e-3)


def test_an_adjusted_network_answers_a5c_by_the_stated_logits_more() -> None:
    weights = learning.network(learning.Network(width=4)).eval().state_dict()
    data = Pictures(sectors(3).numpy(), np.zeros(3, int))
    before, after = (
        views_scores.logits([each], learning.Network(width=4), data)
        for each in (weights, views_training.adjusted(weights))
    )
    expected = [views_training.ADJUSTED.get(name, 0.0) for name in view_image.names()]
    assert np.allclose(after - before, [expected], atol=1e-5)


def test_further_training_starts_from_the_weights_that_it_is_given() -> None:
    start = learning.network(learning.Network(width=4)).state_dict()
    data, recipe = Pictures(sectors(16).numpy(), np.arange(16) % 15), views_training.Recipe(samples=0, batch=16)
    found = views_training.fit(data, 5, learning.Network(width=4), recipe, start).state_dict()
    assert all(torch.equal(found[name], value) for name, value in start.items())


def test_shipping_seals_a_bundle_that_answers_and_scores_the_other_half_once(tmp_path, monkeypatch) -> None:
    camus, shipped = tmp_path / "camus", tmp_path / "models" / "echo-view-image"
    camus.mkdir()
    monkeypatch.setattr(views_scores, "SHIPPED", shipped)
    for k, grey in enumerate(sectors(8).numpy()):
        cv2.imwrite(str(camus / f"{'a2c' if k % 2 else 'a4c'}__patient{k // 2 + 1:04d}_ED.png"), grey)
    members = [learning.network(learning.Network()).state_dict() for _ in range(2)]
    unseen = {name: Pictures(sectors(30).numpy(), np.arange(30) % 15) for name in ("phantom", "field")}
    made = {"seeds": [0, 1], "minutes": 1.5, "samples": 8000, "exponent": 0.7, "ranges": ["bedside", "clinic"]}
    made["trained_shares"] = dict.fromkeys(view_image.names(), 1 / 15)
    views_scores.ship(members, learning.Network(exponent=0.7), made, unseen, camus, tmp_path)
    report = json.loads((tmp_path / "shipped.json").read_text())
    assert report["report"]["patients"] == report["choose"]["patients"] == 2
    assert report["field"]["wrong"] <= 0.03
    assert report["choose"]["wrong"] <= 0.03
    assert sum(report["report"][share] for share in ("right", "wrong", "no label")) == pytest.approx(1, abs=0.01)
    model = runtimes.open(shipped, runtimes.InferenceSettings())
    result = runtimes.answer(view_image.example(1), model).result
    assert sum(result.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert sum(path.stat().st_size for path in shipped.iterdir()) < 10e6
    assert "CC BY-NC-SA" in (shipped / "card.md").read_text()
    assert "ranges bedside, then clinic alone" in (shipped / "card.md").read_text()
    assert model.thresholds.trained_shares == made["trained_shares"]  # type: ignore[attr-defined]
    assert "was raised" not in views_scores.card(report)
    report["report"]["abstain_below"] = -1.0
    assert "was raised from -1.0" in views_scores.card(report)


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
