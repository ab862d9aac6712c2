"""The figures of the benchmark that compares ways to choose what people label."""

import numpy as np
import pytest

from benchmarks.active_learning import BATCH, OURS, RANDOM, RULES, UNCERTAIN, figures_of, needed

RNG = np.random.default_rng(5)
EMBEDDING_NF = RNG.normal(size=(200, 6))
UNCERTAINTY_N = RNG.uniform(size=200)


def test_labels_needed_lie_between_two_batches_in_proportion() -> None:
    accuracy = np.array([0.6, 0.7, 0.65, 0.8])
    assert needed(accuracy, 0.6) == 0
    assert needed(accuracy, 0.65) == pytest.approx(BATCH / 2)
    assert needed(accuracy, 0.75) == pytest.approx(BATCH * (2 + 2 / 3))
    assert needed(accuracy, 0.9) == np.inf


@pytest.mark.parametrize("name", RULES)
def test_every_rule_gives_a_whole_batch_of_studies_without_a_label(name: str) -> None:
    labelled = list(range(50))
    found = RULES[name](EMBEDDING_NF, labelled, UNCERTAINTY_N, np.random.default_rng(1))
    assert len(set(found)) == BATCH
    assert not set(found) & set(labelled)


def test_uncertainty_alone_takes_the_least_certain() -> None:
    found = RULES[UNCERTAIN](EMBEDDING_NF, [], UNCERTAINTY_N, np.random.default_rng(1))
    assert found == list(np.argsort(-UNCERTAINTY_N)[:BATCH])


def test_an_accuracy_that_not_every_seed_reaches_has_no_mean() -> None:
    rising = np.array([[0.6, 0.7, 0.76, 0.76, 0.76, 0.76], [0.6, 0.7, 0.72, 0.73, 0.73, 0.73]])
    figures = {
        one["figure"]: one["value"] for one in figures_of({OURS: rising + 0.05, UNCERTAIN: rising, RANDOM: rising})
    }
    assert f"{RANDOM} reached in 1 of 2 seeds" in figures["labels needed to reach 75 %"]
    assert figures["labels needed to reach 70 %"].startswith(f"{OURS} 30 (30 to 30)")
    assert figures[f"labels saved against random choice, 70 %, {OURS}"] == "30 (30 to 30)"
