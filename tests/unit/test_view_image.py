"""echo-view-image, and what neither view task gives a label (case E5)."""

import cv2
import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from echoplane.errors import UnusableStudy
from echoplane.phantom import make_patient, scan_echo, scan_strip
from echoplane.phantom.strip_screen import STRIP_NAMES
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.tasks import classify, threshold_of, view_image, view_video
from echoplane.tasks.classify import Thresholds
from echoplane.tasks.picture import reason_for_doubt
from echoplane.tasks.view_image import learning

CONFIG = view_image.Preprocessing()
THRESHOLDS = Thresholds(temperature=1.0, abstain_below=0.5)
VIEW_TASKS = (view_image, view_video)


def study_of(frames_THW: np.ndarray, kind: str = "tissue") -> Study:
    count, rows, columns = frames_THW.shape
    region = Region(kind, 0, 0, rows, columns)
    clip = Instance("d", "US", count, rows, columns, Pixels(frames_THW), frame_time_ms=40.0, regions=(region,))
    return Study((clip,))


def phantom_frames(view: str = "a4c", frames: int = 24) -> np.ndarray:
    clip = scan_echo(make_patient(1), view, 1, frames=frames)
    x0, y0, x1, y1 = clip.sector.box
    return np.stack([cv2.cvtColor(screen[y0 : y1 + 1, x0 : x1 + 1], cv2.COLOR_RGB2GRAY) for screen in clip.rgb])


def confident(task, study: Study, config=None):
    """The answer of a network that is certain of the first label, whatever it is shown."""
    prepared = task.preprocess(study, config or task.Preprocessing())
    logits = np.zeros((len(prepared.batch), len(task.labels())))
    logits[:, 0] = 20
    return task.interpret(logits, study, prepared.place, THRESHOLDS)


RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (24, 480, 640)).astype(np.uint8)
FAN = np.hypot(*(np.mgrid[:480, :640] - np.array([[[0]], [[320]]]))) < 400
NO_VIEW = {
    "black": np.zeros((24, 240, 320), np.uint8),
    "white": np.full((24, 240, 320), 255, np.uint8),
    "grey": np.full((24, 240, 320), 90, np.uint8),
    "noise": NOISE,
    "noise in a sector": NOISE * FAN.astype(np.uint8),
    "faint noise": NOISE // 16,
    "one noisy picture": np.repeat(NOISE[:1], 24, axis=0),
}


@pytest.mark.parametrize("task", VIEW_TASKS)
@pytest.mark.parametrize("name", NO_VIEW)
def test_e5_black_white_and_noise_get_no_label_however_sure_the_network_is(task, name: str) -> None:
    result = confident(task, study_of(NO_VIEW[name]))
    assert result.label is None
    assert "structure" in result.warnings[0] or "noise" in result.warnings[0]


@pytest.mark.parametrize("task", VIEW_TASKS)
@pytest.mark.parametrize("quality", [None, 60])
def test_e5_a_frozen_clip_gets_no_label_and_is_said_not_to_move(task, quality: int | None) -> None:
    frame = phantom_frames(frames=1)[0]
    if quality:
        frame = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)
    result = confident(task, study_of(np.repeat(frame[None], 24, axis=0)))
    assert result.label is None
    assert "no motion" in result.warnings[0]


@pytest.mark.parametrize("task", VIEW_TASKS)
def test_a_beating_heart_is_answered(task) -> None:
    result = confident(task, study_of(phantom_frames()))
    assert result.label == "plax"
    assert result.warnings == ()


def test_frames_of_unrelated_pictures_get_no_label() -> None:
    blobs = [cv2.resize(RNG.integers(0, 256, (9, 12)).astype(np.uint8), (320, 240)) for _ in range(8)]
    assert "nothing in common" in reason_for_doubt(blobs, 8)


def test_a_still_is_answered_and_is_not_expected_to_move() -> None:
    result = confident(view_image, study_of(phantom_frames(frames=1)))
    assert result.label == "plax"
    assert result.warnings == ()


def test_frames_of_a_clip_are_spread_over_all_of_it_and_none_comes_twice() -> None:
    assert view_image.sample_frames(24, 8) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert view_image.sample_frames(3, 8) == [0, 1, 2]
    assert view_image.preprocess(study_of(phantom_frames()), CONFIG).batch.shape == (8, 60, 80)


def test_a_clip_gets_the_view_of_the_mean_probability_of_its_frames() -> None:
    logits = np.zeros((3, 15))
    logits[0, 4], logits[1, 4], logits[2, 6] = 2, 2, 9  # two frames unsure of a4c, one certain of a2c
    result = view_image.interpret(
        logits, study_of(np.zeros((3, 60, 80), np.uint8)), {}, Thresholds(temperature=1.0, abstain_below=0.0)
    )
    assert result.label == "a2c"
    assert sum(result.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", STRIP_NAMES)
def test_doppler_and_m_mode_are_known_from_the_header_alone(kind: str) -> None:
    still = scan_strip(make_patient(2), kind, 1)
    x0, y0, x1, y1 = still.box
    grey = cv2.cvtColor(still.rgb[0], cv2.COLOR_RGB2GRAY)
    regions = (Region("trace", 0, 0, 20, 20), Region(kind, y0, x0, y1 + 1, x1 + 1))
    study = Study((Instance("d", "US", 1, *grey.shape, Pixels(grey[None]), regions=regions),))
    result = confident(view_image, study)
    assert (result.label, result.confidence) == (kind, 1.0)
    assert "header" in result.warnings[0]
    assert confident(view_image, study, view_image.Preprocessing(use_header=False)).label == "plax"


def test_a_spectrum_of_an_unstated_kind_is_left_to_the_pixels() -> None:
    study = study_of(phantom_frames(frames=1), kind="spectral")
    assert view_image.preprocess(study, CONFIG).place["stated"] == ""


def test_another_modality_is_refused() -> None:
    clip = Instance("d", "MR", 1, 60, 80, Pixels(np.zeros((1, 60, 80), np.uint8)))
    with pytest.raises(UnusableStudy, match="MR"):
        view_image.preprocess(Study((clip,)), CONFIG)


@pytest.mark.parametrize("settings", [{}, {"kind": "vgg"}, {"members": 2, "width": 8}, {"kind": "vgg", "members": 2}])
def test_each_network_gives_logits_and_an_embedding_and_learns_from_every_weight(settings) -> None:
    network = learning.network(learning.Network(**settings))
    pictures = torch.from_numpy(RNG.integers(0, 256, (6, 60, 80)).astype(np.uint8))
    logits, embedding = network(pictures)
    assert logits.shape == (6, 15)
    assert embedding.shape[0] == 6
    learning.loss(logits, torch.tensor([0, 3, 6, 9, 12, 14])).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_an_ensemble_answers_the_mean_logits_of_its_members() -> None:
    network = learning.network(learning.Network(members=3, width=4)).eval()
    pictures = torch.from_numpy(RNG.integers(0, 256, (2, 60, 80)).astype(np.uint8))
    with torch.no_grad():
        mean = torch.stack([member(pictures)[0] for member in network.members]).mean(dim=0)
        assert torch.allclose(network(pictures)[0], mean, atol=1e-6)


def test_the_paper_s_network_has_six_convolutions_and_dense_layers_of_1028_and_512() -> None:
    modules = list(learning.network(learning.Network(kind="vgg")).modules())
    assert sum(isinstance(m, torch.nn.Conv2d) for m in modules) == 6
    assert [m.out_features for m in modules if isinstance(m, torch.nn.Linear)] == [1028, 512, 15]


def test_pictures_without_a_view_are_drawn_to_even_probabilities_and_count_for_no_label() -> None:
    target = torch.tensor([1, learning.UNLABELLED])
    even, sure = torch.zeros(2, 15), torch.zeros(2, 15)
    sure[1, 4] = 9
    assert learning.loss(even, target) < learning.loss(sure, target)
    labelled_alone = learning.loss(even[:1], target[:1])
    assert labelled_alone == pytest.approx(np.log(15), abs=1e-5)


def test_augmentation_is_seeded_and_leaves_type_and_shape() -> None:
    picture = view_image.preprocess(study_of(phantom_frames(frames=1)), CONFIG).batch[0]
    config = learning.Augmentation()
    first, again, other = (learning.augment(picture, np.random.default_rng(s), config) for s in (1, 1, 2))
    assert first.shape == (60, 80)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("task", VIEW_TASKS)
def test_what_is_unlike_all_that_was_learnt_gets_no_label_however_probable(task) -> None:
    """Two inputs of the same probabilities: logits far under those of validation are unfamiliar."""
    study, labels = study_of(phantom_frames()), len(task.labels())
    place = task.preprocess(study, task.Preprocessing()).place
    logits = np.zeros((1, labels))
    logits[0, 0] = 9
    thresholds = Thresholds(temperature=1.0, abstain_below=0.5, min_energy=5.0)
    known, unknown = (task.interpret(rows, study, place, thresholds) for rows in (logits, logits - 6))
    assert known.probabilities == pytest.approx(unknown.probabilities)
    assert known.label == "plax"
    assert unknown.label is None
    assert "unlike" in unknown.warnings[0]
    assert task.interpret(logits - 6, study, place, THRESHOLDS).label == "plax"


@pytest.mark.parametrize("task", VIEW_TASKS)
def test_a_label_with_a_threshold_of_its_own_needs_that_confidence(task) -> None:
    study, names = study_of(phantom_frames()), [label.name for label in task.labels()]
    place = task.preprocess(study, task.Preprocessing()).place
    thresholds = Thresholds(temperature=1.0, abstain_below=0.5, label_thresholds={"a4c": 0.99})
    logits = np.zeros((1, len(names)))
    for view, sure, label in (("a4c", 5, None), ("a4c", 9, "a4c"), ("plax", 5, "plax"), ("plax", 1, None)):
        result = task.interpret(sure * np.eye(len(names))[[names.index(view)]] + logits, study, place, thresholds)
        assert result.label == label
        assert threshold_of(result, thresholds) == (0.99 if view == "a4c" else 0.5)


def test_thresholds_of_labels_are_in_a_bundle_only_if_there_are_some() -> None:
    plain = Thresholds(temperature=1.0, abstain_below=0.5)
    own = Thresholds(temperature=1.0, abstain_below=0.5, label_thresholds={"a4c": 0.99})
    assert "label_thresholds" not in plain.model_dump(mode="json")
    assert Thresholds.model_validate(own.model_dump(mode="json")) == own
    assert "a4c 0.990" in view_image.about(own)
    assert "but" not in view_image.about(plain)


def test_the_lowest_energy_that_is_answered_is_that_of_almost_all_validation_samples() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 15, 400)
    logits = rng.normal(0, 1, (400, 15)) + 6 * np.eye(15)[truth]
    thresholds = view_image.calibrate([(logits, truth, np.arange(400))]).thresholds
    energies = logsumexp(logits, axis=1)
    assert (energies < thresholds.min_energy).mean() == pytest.approx(0.005, abs=0.003)
    assert classify.unfamiliar(np.zeros((1, 15)), thresholds)
