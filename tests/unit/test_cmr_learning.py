"""cmr-segmentation, the torch half: networks, loss and augmentation."""

import numpy as np
import pytest
import torch

from echoplane.tasks.cmr_segmentation import learning, networks, structures
from tests.rings import LA, LV, MYO, RV, logits_for, rings


def test_the_commuted_network_is_the_published_one() -> None:
    torch.manual_seed(0)
    network = networks.Fcn(4, structures.CLASSES).eval()
    image = torch.randint(0, 255, (2, 48, 64), dtype=torch.uint8)
    with torch.inference_mode():
        quick, _ = network(image)
        network.as_published = True
        published, _ = network(image)
    assert torch.allclose(quick, published, atol=1e-5)


def test_the_papers_network_has_its_levels_and_filters() -> None:
    network = networks.Fcn(16, structures.CLASSES)
    shapes = [[m.out_channels for m in level if isinstance(m, torch.nn.Conv2d)] for level in network.levels]
    assert shapes == [[16] * 2, [32] * 2, [64] * 3, [128] * 3, [256] * 3]
    assert network.join.in_channels == 160


@pytest.mark.parametrize("kind", ["fcn", "unet"])
def test_a_network_answers_every_pixel_of_any_multiple_of_16(kind: str) -> None:
    network = learning.network(learning.Network(kind=kind, width=8)).eval()
    output, embedding = network(torch.zeros((2, 48, 80), dtype=torch.uint8))
    assert output.shape == (2, structures.CLASSES, 48, 80)
    assert embedding.shape[0] == 2


def target(labels: np.ndarray, plane: str, drawn: tuple[int, ...] | None = None) -> torch.Tensor:
    return torch.from_numpy(structures.target_of(labels, plane, drawn))[None]


def test_the_loss_of_the_right_answer_is_nothing_and_of_a_wrong_one_much() -> None:
    labels = np.zeros((16, 16), np.uint8)
    labels[4:9, 4:9] = LV
    right, wrong = (torch.from_numpy(logits_for(m[None])) for m in (labels, np.where(labels == LV, RV, LV)))
    assert float(learning.loss(right, target(labels, "short-axis"))) < 1e-3
    assert float(learning.loss(wrong, target(labels, "short-axis"))) > 5


def test_classes_that_a_source_never_drew_cost_nothing() -> None:
    labels = np.zeros((16, 16), np.uint8)
    labels[4:9, 4:9] = LV
    with_wall = labels.copy()
    with_wall[9:12, 4:9] = MYO
    drawn = target(labels, "short-axis", (LV,))
    losses = [float(learning.loss(torch.from_numpy(logits_for(m[None])), drawn)) for m in (labels, with_wall)]
    assert losses == pytest.approx([0, 0], abs=1e-3)
    assert float(learning.loss(torch.from_numpy(logits_for(with_wall[None])), target(labels, "short-axis"))) > 0.05


def test_classes_of_another_plane_take_no_part() -> None:
    labels = np.zeros((16, 16), np.uint8)
    labels[4:9, 4:9] = LA
    logits = torch.from_numpy(logits_for(labels[None]))
    logits[:, LV] = 50.0  # an LV cavity is not to be seen in this plane
    assert float(learning.loss(logits, target(labels, "2-chamber"))) < 1e-3


def test_a_score_is_the_dice_of_the_cavity() -> None:
    labels = np.zeros((16, 16), np.uint8)
    labels[:8] = LV
    guess = np.zeros_like(labels)
    guess[:4] = LV
    scores = learning.score(torch.from_numpy(logits_for(guess[None])), target(labels, "short-axis", (LV,)))
    assert scores.tolist() == pytest.approx([2 * 4 / 12])


def test_augmentation_moves_picture_and_target_together() -> None:
    labels, cine = rings([[20, 18, 14]] * 2)
    sample = np.stack([cine.voxels_TZHW[0, 0], structures.target_of(labels[0, 0], "short-axis")])
    config = learning.Augmentation(crop=96, gamma=0, gain=0, bias=0, noise=0, blur=0)
    for seed in range(5):
        image, moved = learning.augment(sample, np.random.default_rng(seed), config)
        assert image.shape == moved.shape == (96, 96)
        assert np.median(image[moved & 63 == 1 << LV]) > 200
        again = learning.augment(sample, np.random.default_rng(seed), config)
        assert np.array_equal(again, np.stack([image, moved]))


def test_a_long_axis_slice_keeps_its_sides_and_a_short_axis_slice_may_be_mirrored() -> None:
    left = np.zeros((96, 96), np.uint8)
    left[:, :48] = 200
    still = learning.Augmentation(crop=96, elsewhere=0, shift=0, rotation_degrees=0, scale=0, stretch=0, bend=0)
    still = still.model_copy(update={"quarter_turns": 0.5, "mirrored": 0.5, "bias": 0.0, "gain": 0.0})
    brighter_left = {}
    for plane in ("short-axis", "4-chamber"):
        sample = np.stack([left, structures.target_of(np.zeros_like(left), plane)])
        seen = [learning.augment(sample, np.random.default_rng(seed), still)[0].astype(float) for seed in range(20)]
        brighter_left[plane] = [image[:, :48].mean() > image[:, 48:].mean() + 50 for image in seen]
    assert all(brighter_left["4-chamber"])
    assert not all(brighter_left["short-axis"])


def test_a_bent_slice_keeps_picture_and_target_together() -> None:
    labels, cine = rings([[20, 18, 14]] * 2)
    sample = np.stack([cine.voxels_TZHW[0, 0], structures.target_of(labels[0, 0], "short-axis")])
    plain = learning.Augmentation(crop=96, gamma=0, gain=0, bias=0, noise=0, blur=0, bend=0)
    bent = plain.model_copy(update={"bend": 6.0})
    straight, curved = (learning.augment(sample, np.random.default_rng(4), config) for config in (plain, bent))
    assert not np.array_equal(straight[1], curved[1])
    assert np.median(curved[0][curved[1] & 63 == 1 << LV]) > 200


def test_only_the_asked_share_of_crops_has_its_greys_changed() -> None:
    labels, cine = rings([[20, 18, 14]] * 2)
    sample = np.stack([cine.voxels_TZHW[0, 0], structures.target_of(labels[0, 0], "short-axis")])
    still = learning.Augmentation(crop=80, elsewhere=0, shift=0, rotation_degrees=0, scale=0, stretch=0, bend=0)
    still = still.model_copy(update={"regreyed": 0.3, "quarter_turns": 0.0, "mirrored": 0.0})
    greys = [set(np.unique(learning.augment(sample, np.random.default_rng(seed), still)[0])) for seed in range(200)]
    own = sum(seen <= {30, 60, 220} for seen in greys)
    assert 0.6 < own / len(greys) < 0.8


def test_a_slice_at_the_pictures_edge_still_counts_its_dice() -> None:
    labels = np.zeros((16, 16), np.uint8)
    labels[4:9, 4:9] = LV
    drawn = structures.target_of(labels, "short-axis")
    drawn[:, 12:] = structures.unknown_of(drawn)
    beyond = labels.copy()
    beyond[:, 12:] = RV  # whatever is said beyond the edge costs nothing
    losses = [
        float(learning.loss(torch.from_numpy(logits_for(m[None])), torch.from_numpy(drawn[None])))
        for m in (labels, beyond, labels * RV)
    ]
    assert losses[:2] == pytest.approx([0, 0], abs=1e-3)
    entropy = 12 * 25 / 256  # 25 of 256 pixels wrong by a logit of 12; two of three classes have no overlap
    assert losses[2] == pytest.approx(entropy + 2 / 3 * (1 - 50 / 75), abs=0.01)


def test_beyond_the_picture_nothing_is_known() -> None:
    labels, cine = rings([[20, 18, 14]] * 2, size=64)
    sample = np.stack([cine.voxels_TZHW[0, 0], structures.target_of(labels[0, 0], "short-axis")])
    _, moved = learning.augment(sample, np.random.default_rng(0), learning.Augmentation(crop=160, shift=0))
    assert (moved == structures.unknown_of(sample[1])).sum() > 160 * 160 / 2
