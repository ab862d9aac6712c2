"""The rule that chooses which studies to label: spread, uncertainty, one per examination, the same at every call."""

import numpy as np
import pytest

from echoplane.monitoring.label_choice import choose

RNG = np.random.default_rng(3)
CLUSTERS = np.repeat(np.eye(4) * 10, 25, axis=0) + RNG.normal(0, 0.1, (100, 4))
"""Four kinds of studies far from one another, 25 of each after one another."""
EVEN = np.full(100, 0.5)


def places(*args: object, **more: object) -> list[int]:
    return [one.place for one in choose(*args, **more)]


def test_as_many_studies_as_there_are_kinds_are_one_of_each() -> None:
    assert sorted(place // 25 for place in places(CLUSTERS, EVEN, 4)) == [0, 1, 2, 3]


def test_uncertainty_alone_would_ask_for_one_kind_and_the_rule_does_not() -> None:
    uncertainty = np.where(np.arange(100) < 25, 0.9, 0.5)
    assert set(np.argsort(-uncertainty, kind="stable")[:4] // 25) == {0}
    assert len({place // 25 for place in places(CLUSTERS, uncertainty, 4)}) == 4


def test_of_studies_equally_far_the_least_certain_is_chosen_first() -> None:
    line = np.array([[-1.0], [0.0], [1.0]])
    assert places(line, np.array([0.2, 0.2, 0.6]), 2, known_NF=np.array([[0.0]])) == [2, 0]
    assert places(line, np.array([0.6, 0.2, 0.2]), 2, known_NF=np.array([[0.0]])) == [0, 2]


def test_a_study_like_no_other_is_chosen_though_the_model_is_certain() -> None:
    far = np.concatenate([RNG.normal(0, 0.01, (200, 3)), [[50.0, 50.0, 50.0]]])
    assert 200 in places(far, np.append(np.full(200, 0.3), 0.0), 5)


def test_kinds_that_are_labelled_already_wait_for_the_others() -> None:
    (first, second) = places(CLUSTERS, EVEN, 2, known_NF=CLUSTERS[[0, 30]])
    assert {first // 25, second // 25} == {2, 3}


def test_the_distance_is_that_from_the_nearest_known_or_chosen_study_in_standard_deviations() -> None:
    line = np.array([[0.0], [4.0], [10.0]])
    scale = np.concatenate([line, [[0.0]]]).std()
    found = choose(line, np.ones(3), 2, known_NF=np.array([[0.0]]))
    assert [one.place for one in found] == [2, 1]
    assert [one.distance for one in found] == pytest.approx([10 / scale, 4 / scale])
    assert choose(line, np.ones(3), 1)[0].distance is None


def test_the_scale_of_a_feature_does_not_decide() -> None:
    stretched = CLUSTERS * np.array([1e-3, 1, 1e3, 1e6])
    assert places(stretched, EVEN, 10) == places(CLUSTERS, EVEN, 10)


def test_at_most_one_study_of_an_examination_is_chosen() -> None:
    examinations = np.arange(100) % 7
    found = places(CLUSTERS, EVEN, 50, group_N=examinations)
    assert sorted(examinations[found]) == list(range(7))


def test_the_same_studies_are_chosen_at_every_call_and_never_twice() -> None:
    uncertainty = RNG.uniform(size=100)
    found = places(CLUSTERS, uncertainty, 60)
    assert found == places(CLUSTERS.copy(), uncertainty.copy(), 60)
    assert len(set(found)) == 60


def test_a_larger_queue_begins_with_the_smaller_one() -> None:
    assert places(CLUSTERS, EVEN, 30)[:8] == places(CLUSTERS, EVEN, 8)


def test_a_study_with_the_very_embedding_of_a_chosen_one_is_not_asked_for() -> None:
    assert len(places(np.repeat(np.eye(3), 10, axis=0), np.full(30, 0.5), 30)) == 3


def test_an_empty_pool_gives_an_empty_queue() -> None:
    assert places(np.empty((0, 4)), np.empty(0), 5) == []


@pytest.mark.parametrize(
    ("uncertainty", "known", "message"),
    [
        (np.ones(99), None, "lengths"),
        (np.full(100, np.nan), None, "finite"),
        (np.ones(100), np.zeros((2, 3)), "features"),
    ],
)
def test_what_does_not_fit_together_is_refused(uncertainty: np.ndarray, known: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(CLUSTERS, uncertainty, 5, known_NF=known)
