"""The room `training` and the torch half of echo-view-video, in one process without Ray."""

import subprocess
import sys
import warnings
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from echoplane.adapters import local_ray
from echoplane.bundle import Bundle, read
from echoplane.dataset.description import Description
from echoplane.dataset.shards import Shards
from echoplane.errors import ConfigError, StageError
from echoplane.stages.start import Start
from echoplane.stages.train import Config as StageSettings
from echoplane.stages.train import _check as check_settings
from echoplane.stages.train import _check_start as check_start
from echoplane.stages.train import _settings as complete_settings
from echoplane.tasks import by_name
from echoplane.tasks.view_video import labels, learning
from echoplane.tasks.view_video.learning import Augmentation, Network
from echoplane.training.checkpoint import FILE, State, read_state, write_state
from echoplane.training.config import TrainConfig
from echoplane.training.data import training_batches, training_truths
from echoplane.training.loop import learning_rate, train, validate
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_cohort import moving_bar

FAST = TrainConfig(steps=5, epoch_steps=2, batch=4)
SMALL = Network(width=8, beta=4)
NOTHING = Augmentation(rotation_degrees=0, shift=0, zoom=0, gain=0, gamma=0, noise=0, speed=0, erase=0)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def shards(train_clips: int = 16, validation_clips: int = 4) -> Shards:
    """Two views of moving bars, 8 frames of 32 x 32; a patient has one clip of each."""
    count = train_clips + validation_clips
    label = np.arange(count) % 2
    clips = [cv2.resize(moving_bar(6 * k, [n])[:8].transpose(1, 2, 0), (32, 32)) for n, k in enumerate(label)]
    index = {
        "shard": np.zeros(count, int),
        "row": np.arange(count),
        "label": label.astype(np.int32),
        "patient": np.array([f"P{n // 2}" for n in range(count)]),
        "split": np.array(["train"] * train_clips + ["validation"] * validation_clips),
    }
    return Shards(index, (np.stack(clips).transpose(0, 3, 1, 2),))


def fit(config: TrainConfig = FAST, **settings) -> State:
    return train(learning, shards(), config, network=SMALL, augmentation=NOTHING, **settings)


def batch(count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (count, 16, 64, 64), dtype=np.uint8))


# network and loss


def test_the_network_answers_logits_and_an_embedding():
    output, embedding = learning.network(Network()).eval()(batch(3))
    assert output.shape == (3, len(labels()))
    assert embedding.shape == (3, 32 * 18)


def test_the_network_leaves_its_input_alone_and_takes_other_sizes():
    module, clips = learning.network(SMALL).eval(), batch()
    before = clips.clone()
    module(clips)
    assert (clips == before).all()
    assert module(torch.zeros(1, 8, 96, 96, dtype=torch.uint8))[0].shape == (1, 12)


def test_order_of_frames_matters_to_the_network():
    module, clips = learning.network(Network()).eval(), batch()
    assert not torch.allclose(module(clips)[1], module(clips.flip(1))[1], atol=1e-4)


def test_a_width_that_beta_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 12 is not a multiple of beta 8"):
        learning.network(Network(width=12))


def test_the_network_survives_export_with_any_batch(tmp_path):
    import onnxruntime

    module = learning.network(SMALL).eval()
    names = {"input_names": ["clip"], "output_names": ["output", "embedding"]}
    axes = {name: {0: "batch"} for name in ("clip", "output", "embedding")}
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the older exporter, whose files TensorRT reads
        torch.onnx.export(module, (batch(1),), path, opset_version=17, dynamo=False, dynamic_axes=axes, **names)
    answers = onnxruntime.InferenceSession(path).run(None, {"clip": batch(3).numpy()})
    for answer, expected in zip(answers, module(batch(3)), strict=True):
        assert answer == pytest.approx(expected.detach().numpy(), abs=1e-5)


def test_torchvision_is_neither_imported_nor_left_as_a_stand_in():
    code = (
        "import sys; from echoplane.tasks.view_video import learning as l; l.network(l.Network());"
        "assert 'torchvision' not in sys.modules and 'torchvision.ops' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_loss_ignores_what_was_never_labelled():
    output = torch.randn(3, 12, generator=torch.manual_seed(0))
    both = learning.loss(output, torch.tensor([4, -1, 7]))
    assert both == pytest.approx(float(learning.loss(output[[0, 2]], torch.tensor([4, 7]))))
    assert learning.loss(output, torch.tensor([-1, -1, -1])) == 0


def test_the_loss_pushes_what_shows_no_view_to_even_probabilities():
    target = torch.tensor([4, -1])
    even, sure = torch.zeros(2, 12), torch.zeros(2, 12)
    sure[1, 7] = 9
    expected = [float(learning.loss(output[:1], target[:1])) for output in (even, sure)]
    found = [float(learning.loss(output, target, outlier_weight=0.5)) for output in (even, sure)]
    assert found[0] == pytest.approx(expected[0] + 0.5 * np.log(12), rel=1e-5)
    assert found[1] > found[0] + 1


def test_the_loss_is_cross_entropy():
    output, target = torch.randn(3, 12, generator=torch.manual_seed(0)), torch.tensor([4, 0, 7])
    expected = -output.double().log_softmax(dim=1)[range(3), target].mean()
    assert float(learning.loss(output, target, label_smoothing=0)) == pytest.approx(float(expected), rel=1e-5)


# augmentation


def test_augmentation_keeps_shape_type_and_the_sample_itself():
    sample = batch(1)[0].numpy()
    before = sample.copy()
    sample.flags.writeable = False  # as a memory map is
    for seed in range(20):
        changed = learning.augment(sample, np.random.default_rng(seed), Augmentation())
        assert (changed.shape, changed.dtype) == (sample.shape, np.uint8)
    assert (sample == before).all()


def test_augmentation_without_any_setting_changes_nothing():
    sample = batch(1)[0].numpy()
    assert (learning.augment(sample, np.random.default_rng(0), NOTHING) == sample).all()


def test_the_same_generator_gives_the_same_augmentation():
    sample = batch(1)[0].numpy()
    one, two, other = (learning.augment(sample, np.random.default_rng(s), Augmentation()) for s in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


def test_augmentation_never_mirrors():
    """A bright left stays left and a bright top stays top, whatever the generator."""
    sample = np.zeros((16, 64, 64), np.uint8)
    sample[:, 12:28, 12:28] = 200
    for seed in range(200):
        changed = learning.augment(sample, np.random.default_rng(seed), Augmentation(erase=0)).astype(float).sum(axis=0)
        assert changed[:32, :32].sum() > 0.6 * changed.sum()


def test_augmentation_never_reverses_time():
    sample = np.repeat(np.arange(16, dtype=np.uint8) * 10, 64 * 64).reshape(16, 64, 64)
    slowed = NOTHING.model_copy(update={"speed": 0.5})
    starts = set()
    for seed in range(100):
        shown = learning.augment(sample, np.random.default_rng(seed), slowed)[:, 32, 32].astype(int)
        assert (np.diff(shown) >= 0).all()
        assert np.diff(shown).max() < 15  # 10 apart, give or take the rounding of noise-free interpolation
        starts.add(shown[0])
    assert len(starts) > 3


def test_all_frames_move_alike():
    sample = np.repeat(batch(1)[0, :1].numpy(), 16, axis=0)
    moved = learning.augment(sample, np.random.default_rng(3), Augmentation(noise=0, erase=0))
    assert (moved == moved[:1]).all()
    assert (moved[0] != sample[0]).any()


@pytest.mark.parametrize("setting", [{"stretch": 0.4}, {"margin": 0.8}, {"field": 0.5}, {"blur": 1.0}])
def test_each_further_setting_changes_all_frames_alike(setting):
    sample = np.zeros((4, 64, 64), np.uint8)
    sample[:, 8:56, 8:56] = batch(1)[0, :1, 8:56, 8:56].numpy() // 2 + 40
    drawn = [learning.augment(sample, np.random.default_rng(s), NOTHING.model_copy(update=setting)) for s in range(30)]
    assert all((each == each[:1]).all() for each in drawn)
    changed = [each for each in drawn if (each != sample).any()]
    assert len(changed) in (range(1, 12) if "margin" in setting else range(20, 31))
    if "margin" in setting:  # the picture becomes smaller, about its middle
        assert all((each[0] > 0).sum() <= (sample[0] > 0).sum() for each in changed)
        assert all(each[0, 32, 32] > 0 for each in changed)
    if "stretch" in setting:  # columns keep their places
        assert all(not each[0][:, :7].any() and not each[0][:, 57:].any() for each in changed)


def test_noise_has_the_deviation_it_says_at_mid_grey_and_spares_black():
    grey = np.full((16, 64, 64), 128, np.uint8)
    assert learning._speckled(grey, 12, np.random.default_rng(0)).std() == pytest.approx(12, rel=0.05)
    assert not learning._speckled(np.zeros_like(grey), 12, np.random.default_rng(0)).any()


# data


def test_shuffled_labels_are_permuted_within_the_training_split_alone():
    data = shards()
    shuffled, truths = training_truths(data, 3)
    assert (shuffled == truths).all()
    assert sorted(shuffled[:16]) == sorted(data.index["label"][:16])
    assert (shuffled[:16] != data.index["label"][:16]).any()
    assert (shuffled[16:] == data.index["label"][16:]).all()
    assert (training_truths(data, None)[1] == data.index["label"]).all()


def test_two_workers_show_what_one_would():
    settings = {"epoch": 1, "steps": 3}

    def added(sample, rng):
        return sample + rng.integers(0, 9, dtype=np.uint8)

    whole = list(training_batches(shards(), added, FAST, **settings))
    halves = [list(training_batches(shards(), added, FAST, **settings, rank=rank, world=2)) for rank in (0, 1)]
    for step, (samples, targets) in enumerate(whole):
        for rank in (0, 1):
            assert (halves[rank][step][0] == samples[rank::2]).all()
            assert (halves[rank][step][1] == targets[rank::2]).all()


# loop


def test_training_takes_exactly_the_steps_it_was_told_and_says_so():
    told, states = [], []
    state = fit(on_progress=lambda done, total, loss: told.append((done, total)), on_epoch=states.append)
    assert told == [(k, 5) for k in range(1, 6)]
    assert [s.steps for s in states] == [2, 4, 5]
    assert (state.steps, state.epoch, len(state.history)) == (5, 3, FAST.epochs)
    assert set(state.history[0]) == {*("epoch", "steps", "loss", "validation_loss", "validation_accuracy", "seconds")}


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    states = []
    whole = fit(on_epoch=states.append)
    write_state(states[0], tmp_path)
    resumed = fit(resume_from=read_state(tmp_path))
    assert resumed.steps == whole.steps
    assert [h["loss"] for h in resumed.history] == pytest.approx([h["loss"] for h in whole.history], rel=1e-4)
    for name, tensor in whole.weights.items():
        assert torch.allclose(resumed.weights[name].float(), tensor.float(), rtol=1e-3, atol=1e-5), name


def test_a_finished_run_is_not_trained_further():
    whole = fit()
    again = fit(resume_from=whole, on_progress=lambda *told: pytest.fail("a step was taken"))
    assert again.steps == 5


def test_training_learns_what_can_be_learnt_and_nothing_from_shuffled_labels():
    config = TrainConfig(steps=50, epoch_steps=50, batch=8, learning_rate=1e-2)
    data = shards(120, 40)
    accuracy = [
        train(learning, data, c, network=SMALL, augmentation=NOTHING).history[-1]["validation_accuracy"]
        for c in (config, config.model_copy(update={"shuffle_labels_seed": 1}))
    ]
    assert accuracy[0] > 0.9
    assert accuracy[1] < 0.75


def test_the_best_weights_are_those_of_the_lowest_validation_loss():
    states = []
    config = TrainConfig(steps=8, epoch_steps=2, batch=4, learning_rate=0.5, optimiser="sgd", keep="best")
    fit(config, on_epoch=states.append)
    losses = [row["validation_loss"] for row in states[-1].history]
    best = states[int(np.argmin(losses))].weights
    assert all(torch.equal(states[-1].best[name], tensor) for name, tensor in best.items())


def test_validation_is_the_mean_over_clips_whatever_the_batches():
    module = learning.network(SMALL)
    clips, targets = batch(6).numpy(), np.arange(6)
    whole = validate(learning, module, [(clips, targets)], FAST)
    parts = validate(learning, module, [(clips[:4], targets[:4]), (clips[4:], targets[4:])], FAST)
    assert parts == pytest.approx(whole, rel=1e-5)


def test_training_that_diverged_says_so():
    with pytest.raises(StageError, match="lower `learning_rate`"):
        fit(TrainConfig(steps=40, epoch_steps=20, batch=4, learning_rate=1e30, warmup=0, optimiser="sgd"))


def test_the_learning_rate_rises_falls_and_ends_at_nothing():
    config = TrainConfig(steps=100, warmup=0.2, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert np.argmax(rates) == 20
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[-1] < 0.001


# checkpoint and settings


def test_a_damaged_checkpoint_is_refused(tmp_path):
    write_state(State(epoch=1), tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(StageError, match="can't be read"):
        read_state(tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"epoch": Hostile()}, tmp_path / FILE)
    with pytest.raises(StageError, match="can't be read"):
        read_state(tmp_path)


def test_a_setting_that_the_task_does_not_have_is_refused():
    settings = complete_settings(StageSettings(root="r", samples="s", network={"depth": 50}), None, learning)
    assert settings["network"]["depth"] == 50
    with pytest.raises(ConfigError, match="is not valid"):
        complete_settings(StageSettings(root="r", samples="s", augmentation={"flip": 1}), None, learning)
    with pytest.raises(ConfigError, match=r"the loss has no such setting .*'diec'"):
        complete_settings(StageSettings(root="r", samples="s", training=TrainConfig(loss={"diec": 1})), None, learning)


@pytest.mark.parametrize(
    ("task", "settings", "word"),
    [
        ("echo-view-video", {"workers": 5, "training": TrainConfig(batch=4)}, "5 workers can't share a batch of 4"),
        ("cmr-segmentation", {"training": TrainConfig(shuffle_labels_seed=1)}, "learns from masks"),
    ],
)
def test_settings_that_would_fail_on_the_workers_are_refused_before(task, settings, word):
    with pytest.raises(ConfigError, match=word):
        check_settings(StageSettings(root="r", samples="s", **settings), by_name(task))
    check_settings(StageSettings(root="r", samples="s"), by_name(task))


def description_like(bundle: Bundle, **changed) -> Description:
    spec = bundle.spec
    known = {
        "task": spec.task,
        "split_id": spec.split_id,
        "preprocessing": bundle.preprocessing.model_dump(mode="json"),
    }
    return Description(**({"schema": 1, "split": {}, "data_digest": "0" * 64} | known | changed))


@pytest.mark.parametrize(
    ("changed", "settings", "word"),
    [
        ({"task": "echo-view-image"}, {}, "is a bundle of echo-view-video; the dataset is of echo-view-image"),
        ({"preprocessing": {"frames": 16}}, {}, "make it again with the same `start`"),
        ({"split_id": "another"}, {}, "may have learnt from test patients"),
        ({}, {"network": {"width": 16}}, "leave it out"),
    ],
)
def test_training_starts_from_no_bundle_that_does_not_fit_or_may_know_test_patients(tmp_path, changed, settings, word):
    bundle = read(make_tiny_bundle(tmp_path))
    given = StageSettings(root="r", samples="s", start=Start(bundle=str(tmp_path)), **settings)
    with pytest.raises(ConfigError, match=word):
        check_start(given, bundle, description_like(bundle, **changed))


def test_training_starts_from_a_bundle_of_the_same_split_or_one_stated_to_know_no_patient(tmp_path):
    bundle = read(make_tiny_bundle(tmp_path))
    given = StageSettings(root="r", samples="s", start=Start(bundle=str(tmp_path)))
    check_start(given, bundle, description_like(bundle))
    stated = given.model_copy(update={"start": Start(bundle=str(tmp_path), knows_no_patient=True)})
    check_start(stated, bundle, description_like(bundle, split_id="another"))


def test_the_dataset_room_needs_no_torch():
    code = "import sys, echoplane.stages.dataset, echoplane.training.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class SlowRay:
    """A double of Ray whose node is not there in time for the first `slow` starts."""

    def __init__(self, slow: int) -> None:
        self.slow, self.started, self.folders = slow, 0, []

    def init(self, **options: Any) -> None:
        self.folders.append(options["_temp_dir"])
        if len(self.folders) <= self.slow:
            raise Exception("The current node timed out during startup.")  # noqa: TRY002 (as Ray does)
        self.started += 1

    def shutdown(self) -> None:
        pass


def test_e15_ray_is_started_again_where_a_busy_machine_takes_longer_than_it_waits() -> None:
    ray = SlowRay(slow=2)
    local_ray.start_ray(ray, 1, "/tmp/ray-1-x/", {})
    assert (ray.started, ray.folders) == (1, ["/tmp/ray-1-x/0", "/tmp/ray-1-x/1", "/tmp/ray-1-x/2"])
    with pytest.raises(StageError, match="too busy"):
        local_ray.start_ray(SlowRay(slow=99), 1, "/tmp/ray-1-x/", {})
