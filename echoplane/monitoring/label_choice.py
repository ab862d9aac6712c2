"""Which answered studies a person should label next: those that the model is unsure of, unlike one another.

Farthest-first traversal (Gonzalez 1985, doi 10.1016/0304-3975(85)90224-5; as active learning: Sener and Savarese 2018,
arXiv 1708.00489), in which a study's distance counts in proportion to the model's uncertainty. Uncertainty alone asks
for many studies of one kind; distance alone asks for oddities that the model reads well.
Axes: N study, F feature.
"""

from dataclasses import dataclass

import numpy as np

from echoplane.bundle.embeddings import centre_and_scale

MIN_WEIGHT = 0.01
"""Smallest weight of a distance, so that a study of which the model is certain still counts if it is like no other."""


@dataclass(frozen=True)
class Choice:
    """One chosen study: its place, and the distance of its embedding from the nearest of those known and chosen before
    it, in standard deviations; None for the first of all, which has none to be compared with."""

    place: int
    distance: float | None


def choose(
    embedding_NF: np.ndarray,
    uncertainty_N: np.ndarray,
    count: int,
    *,
    known_NF: np.ndarray | None = None,
    group_N: np.ndarray | None = None,
) -> list[Choice]:
    """Returns up to `count` studies to label, most wanted first; the same ones at every call.

    `uncertainty_N` is 0 for a certain answer and 1 for none. `known_NF` are embeddings of studies that have a label
    already. At most one study is chosen of each value of `group_N`, such as an examination. Fewer than `count` are
    returned if the other studies have a group or the very embedding of a chosen one. Raises ValueError if the lengths
    differ or a number is not finite.
    """
    groups = np.arange(len(embedding_NF)) if group_N is None else np.asarray(group_N)
    known = np.empty((0, *embedding_NF.shape[1:]), np.float32) if known_NF is None else known_NF
    _check(embedding_NF, uncertainty_N, groups, known)
    if not len(embedding_NF):
        return []
    scale_F = centre_and_scale(np.concatenate([embedding_NF, known]))[1] * np.sqrt(embedding_NF.shape[1])
    scaled_NF, weight_N = embedding_NF / scale_F, np.maximum(uncertainty_N, MIN_WEIGHT)
    nearest_N = np.full(len(scaled_NF), np.inf)
    for one_F in known / scale_F:
        nearest_N = np.minimum(nearest_N, _distances(scaled_NF, one_F))
    free_N, chosen = np.ones(len(scaled_NF), bool), list[Choice]()
    while len(chosen) < count and free_N.any():
        alone = bool(np.isinf(nearest_N[0]))
        score_N = np.where(free_N, weight_N * (1 if alone else nearest_N), 0)
        place = int(score_N.argmax())  # of equal ones the first
        if score_N[place] <= 0:
            break
        chosen.append(Choice(place, None if alone else float(nearest_N[place])))
        nearest_N = np.minimum(nearest_N, _distances(scaled_NF, scaled_NF[place]))
        free_N &= groups != groups[place]
    return chosen


def _distances(scaled_NF: np.ndarray, one_F: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(scaled_NF - one_F, axis=1))


def _check(embedding_NF: np.ndarray, uncertainty_N: np.ndarray, group_N: np.ndarray, known_NF: np.ndarray) -> None:
    lengths = {len(embedding_NF), len(uncertainty_N), len(group_N)}
    if len(lengths) > 1:
        raise ValueError(f"embeddings, uncertainties and groups have lengths {sorted(lengths)}; one each is needed.")
    if known_NF.shape[1:] != embedding_NF.shape[1:]:
        raise ValueError(f"known embeddings have {known_NF.shape[1:]} features, the others {embedding_NF.shape[1:]}.")
    if not all(np.isfinite(values).all() for values in (embedding_NF, uncertainty_N, known_NF)):
        raise ValueError("embeddings and uncertainties must be finite numbers; leave out the studies that have none.")
