"""Labelled studies needed on machines never seen: chosen by `echoplane label-queue`, by uncertainty, and at random.

python -m benchmarks active-learning      # minutes on one core; pictures are kept, so a second run is quicker

A small stills network learns from pictures of the usual ranges. For each seed there are other hearts on machines never
seen: a pool whose pictures are labelled in batches, and a test set. After each batch the network as it was at first is
tuned on the first pictures and all labelled ones, half of each step from either; its first layers stay as they are,
so that their outputs are computed once. Each picture shows another heart.
Axes: N picture, C channel, H row, W column, F feature, K label, S seed, B batch.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats

from benchmarks import machine, results
from benchmarks.views_pictures import FIELD, Pictures, inputs, pictures
from echoplane.monitoring.label_choice import choose
from echoplane.phantom import USUAL, Ranges
from echoplane.tasks.view_image import learning

WORK = results.CHECKOUT / "build" / "bench" / "active_learning"
CURVE = results.CHECKOUT / "build" / "bench" / "active_learning.png"
SEEDS = range(5)
FIRST_GROUP, GROUPS_PER_SEED = 60_000, 1_000
"""Groups of pictures that no other training or benchmark takes."""
START, POOL, TEST = range(75), range(200, 275), range(400, 475)
"""Groups: of seed 0 what is learnt from at first; of each seed what is chosen from, and tested on."""
NETWORK = learning.Network(width=8)
AUGMENTATION = learning.Augmentation(rotation_degrees=3, shift=0.04, zoom=0.06, stretch=0.08)
STEPS, LEARNING_RATE = 300, 3e-3
TUNING_STEPS, TUNING_RATE = 80, 1e-3
PICTURES_PER_STEP = 64
FIXED = 9
"""Number of layers of the trunk that are not tuned: up to the first block of a quarter of the first rows."""
BATCH, MAX_LABELS = 60, 300
"""Studies labelled between two retrainings, and in all."""
ACCURACIES = (0.7, 0.725, 0.75)
OURS, UNCERTAIN, RANDOM = "label-queue", "uncertainty alone", "random"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Halfway:
    """Outputs of the fixed layers (N, C, H, W), and the labels (N)."""

    output_NCHW: torch.Tensor
    label_N: torch.Tensor

    def of(self, places: Sequence[int]) -> "Halfway":
        return Halfway(self.output_NCHW[list(places)], self.label_N[list(places)])


Rule = Callable[[np.ndarray, list[int], np.ndarray, np.random.Generator], list[int]]
"""Returns the next places in the pool, given its embeddings (N, F), the labelled places and the uncertainty (N)."""


def _by_queue(
    embedding_NF: np.ndarray, labelled: list[int], uncertainty_N: np.ndarray, rng: np.random.Generator
) -> list[int]:
    free = _free(embedding_NF, labelled)
    known_NF = embedding_NF[labelled]
    chosen = choose(embedding_NF[free], uncertainty_N[free], BATCH, known_NF=known_NF)
    return [int(free[one.place]) for one in chosen]


def _by_uncertainty(
    embedding_NF: np.ndarray, labelled: list[int], uncertainty_N: np.ndarray, rng: np.random.Generator
) -> list[int]:
    free = _free(embedding_NF, labelled)
    return [int(place) for place in free[np.argsort(-uncertainty_N[free], kind="stable")[:BATCH]]]


def _at_random(
    embedding_NF: np.ndarray, labelled: list[int], uncertainty_N: np.ndarray, rng: np.random.Generator
) -> list[int]:
    return [int(place) for place in rng.choice(_free(embedding_NF, labelled), BATCH, replace=False)]


def _free(embedding_NF: np.ndarray, labelled: list[int]) -> np.ndarray:
    return np.setdiff1d(np.arange(len(embedding_NF)), labelled)


RULES: dict[str, Rule] = {OURS: _by_queue, UNCERTAIN: _by_uncertainty, RANDOM: _at_random}


def measure(seeds: Sequence[int] = SEEDS) -> None:
    """Renders, trains, chooses, records the figures, and draws the curve."""
    torch.set_num_threads(1)
    began = time.process_time()
    first = _pictures(0, START, USUAL)
    network = _trained(first)
    start = _halfway(network, first)
    curves: dict[str, list[list[float]]] = {name: [] for name in RULES}
    for seed in seeds:
        pool, test = (_halfway(network, _pictures(seed, groups, FIELD)) for groups in (POOL, TEST))
        for name, rule in RULES.items():
            curves[name].append(curve(rule, network, start, pool, test, seed))
        shown = (f"{name} {' '.join(f'{100 * one:.1f}' for one in found[-1])}" for name, found in curves.items())
        print(f"seed {seed}: {', '.join(shown)}", flush=True)
    accuracy = {name: np.array(found) for name, found in curves.items()}
    draw(accuracy)
    minutes = (time.process_time() - began) / 60
    text = (
        f"A network of width {NETWORK.width} that learnt from {len(start.label_N)} synthetic pictures of usual ranges. "
        f"Per seed, {len(pool.label_N)} pictures of clinic ranges on machines never seen to choose from and "
        f"{len(test.label_N)} to test on, all of different hearts. After every {BATCH} labels its later layers are "
        f"tuned for {TUNING_STEPS} steps, from the same start. Means over {len(seeds)} seeds with their "
        f"{CONFIDENCE:.0%} t intervals; differences are paired by seed. "
        f"{minutes:.0f} minutes of one core, without pictures that were rendered before."
    )
    conditions = machine.conditions("python -m benchmarks active-learning", None)
    conditions["command"] += f" (seeds {seeds[0]} to {seeds[-1]})"
    figures = figures_of(accuracy)
    results.record("active-learning", "Choosing what to label", figures, conditions, text)
    print(*(f"{one['figure']}: {one['value']}" for one in figures), f"curve: {CURVE}", sep="\n")


def curve(rule: Rule, network: torch.nn.Module, start: Halfway, pool: Halfway, test: Halfway, seed: int) -> list[float]:
    """Returns the accuracy before the first batch of labels and after each."""
    rng, labelled, tuned = np.random.default_rng([seed, 71]), list[int](), network
    found = [_accuracy(tuned, test)]
    while len(labelled) < MAX_LABELS:
        logits_NK, embedding_NF = _run(tuned, pool.output_NCHW)
        uncertainty_N = 1 - logits_NK.softmax(dim=1).amax(dim=1).numpy()
        labelled += rule(embedding_NF.numpy(), labelled, uncertainty_N, rng)
        tuned = _tuned(network, start, pool.of(labelled), seed)
        found.append(_accuracy(tuned, test))
    return found


def _pictures(seed: int, groups: range, ranges: Ranges) -> Pictures:
    first = FIRST_GROUP + GROUPS_PER_SEED * seed
    return pictures(WORK / "pictures", range(first + groups.start, first + groups.stop), ranges)


def _trained(data: Pictures) -> torch.nn.Module:
    torch.manual_seed(0)
    rng, picture_NHW, label_N = np.random.default_rng(72), inputs(data.grey_NHW), torch.from_numpy(data.label_N)
    network = learning.network(NETWORK)

    def loss() -> torch.Tensor:
        rows = rng.choice(len(picture_NHW), PICTURES_PER_STEP, replace=False)
        batch = np.stack([learning.augment(picture_NHW[row], rng, AUGMENTATION) for row in rows])
        return learning.loss(network(torch.from_numpy(batch))[0], label_N[rows])

    return _optimized(network, loss, STEPS, LEARNING_RATE)


def _tuned(network: torch.nn.Module, start: Halfway, labelled: Halfway, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    rng, tuned = np.random.default_rng([seed, 73]), copy.deepcopy(network)

    def loss() -> torch.Tensor:
        half = PICTURES_PER_STEP // 2
        drawn = [data.of(rng.choice(len(data.label_N), half)) for data in (start, labelled)]
        output, _ = _later(tuned, torch.cat([data.output_NCHW for data in drawn]))
        return learning.loss(output, torch.cat([data.label_N for data in drawn]))

    tuned.train()
    tuned.trunk[:FIXED].eval()
    return _optimized(tuned, loss, TUNING_STEPS, TUNING_RATE)


def _optimized(network: torch.nn.Module, loss: Callable[[], torch.Tensor], steps: int, rate: float) -> torch.nn.Module:
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _halfway(network: torch.nn.Module, data: Pictures) -> Halfway:
    with torch.inference_mode():
        parts = torch.from_numpy(inputs(data.grey_NHW)).split(200)
        grey = ((part.float()[:, None] - learning.MEAN) / learning.DEVIATION for part in parts)
        output_NCHW = torch.cat([network.trunk[:FIXED](part) for part in grey])
    return Halfway(output_NCHW.clone(), torch.from_numpy(data.label_N))


def _later(network: torch.nn.Module, output_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits and embeddings, as the network does from its fixed layers on."""
    embedding = network.trunk[FIXED:](output_NCHW)
    return network.classify(network.dropout(embedding)), embedding


def _run(network: torch.nn.Module, output_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        found = [_later(network, part) for part in output_NCHW.split(200)]
    return torch.cat([logits for logits, _ in found]), torch.cat([embedding for _, embedding in found])


def _accuracy(network: torch.nn.Module, data: Halfway) -> float:
    return float((_run(network, data.output_NCHW)[0].argmax(dim=1) == data.label_N).float().mean())


def needed(accuracy_B: np.ndarray, wanted: float) -> float:
    """Returns the labels after which the accuracy (batch) first reaches `wanted`, between two batches in proportion;
    infinity if it never does."""
    reached = np.flatnonzero(accuracy_B >= wanted)
    if not len(reached):
        return np.inf
    after = int(reached[0])
    if after == 0:
        return 0.0
    before, then = accuracy_B[after - 1], accuracy_B[after]
    return BATCH * float(after - 1 + (wanted - before) / (then - before))


def figures_of(accuracy: dict[str, np.ndarray]) -> list[dict[str, str]]:
    """Returns the figures of accuracies (seed, batch) by rule."""
    before = _mean(100 * accuracy[RANDOM][:, 0])
    figures = [{"figure": "accuracy before any label (%)", "value": before}]
    for wanted in ACCURACIES:
        labels = {name: np.array([needed(one, wanted) for one in found]) for name, found in accuracy.items()}
        shown = "; ".join(f"{name} {_labels(found)}" for name, found in labels.items())
        figures.append({"figure": f"labels needed to reach {100 * wanted:g} %", "value": shown})
        for name in (OURS, UNCERTAIN):
            with np.errstate(invalid="ignore"):  # neither got there
                saved_S = labels[RANDOM] - labels[name]
            what = f"labels saved against random choice, {100 * wanted:g} %, {name}"
            figures.append({"figure": what, "value": _labels(saved_S)})
    for after in range(BATCH, MAX_LABELS + 1, BATCH):
        column = after // BATCH
        shown = "; ".join(f"{name} {_mean(100 * found[:, column])}" for name, found in accuracy.items())
        figures.append({"figure": f"accuracy after {after} labels (%)", "value": shown})
    for name in (OURS, UNCERTAIN):
        gain_S = 100 * (accuracy[name] - accuracy[RANDOM])[:, 1:].mean(axis=1)
        figures.append(
            {"figure": f"accuracy above random choice, mean of all batches (points), {name}", "value": _mean(gain_S)}
        )
    return figures


def _labels(labels_S: np.ndarray) -> str:
    """Returns mean and interval; if not every seed got there, in how many it did."""
    there = labels_S[np.isfinite(labels_S)]
    if len(there) < len(labels_S):
        return f"reached in {len(there)} of {len(labels_S)} seeds"
    return _mean(there, digits=0)


def _mean(values_S: np.ndarray, digits: int = 1) -> str:
    mean = float(values_S.mean())
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values_S) - 1) * values_S.std(ddof=1) / np.sqrt(len(values_S))
    return f"{mean:.{digits}f} ({mean - half:.{digits}f} to {mean + half:.{digits}f})"


def draw(accuracy: dict[str, np.ndarray]) -> None:
    """Draws mean accuracies with the range of the seeds to CURVE."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, found_SB in accuracy.items():
        labels_B = BATCH * np.arange(found_SB.shape[1])
        (line,) = axes.plot(labels_B, 100 * found_SB.mean(axis=0), label=name)
        low_B, high_B = 100 * found_SB.min(axis=0), 100 * found_SB.max(axis=0)
        axes.fill_between(labels_B, low_B, high_B, color=line.get_color(), alpha=0.15)
    axes.set_xlabel("labelled studies of machines never seen")
    axes.set_ylabel("accuracy on further hearts (%)")
    axes.set_title("Mean of the seeds, and their range")
    axes.legend()
    CURVE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(CURVE, dpi=120)


if __name__ == "__main__":
    measure()
