"""Balanced sampling of an epoch: rare labels and patients with few samples are shown as often as the others.

The balancing rule of Cheng et al. 2025 (TTESlowFast) is not published; this rule is our own. It is a pure function of
arrays and numbers: every worker computes the same epoch and takes its own part, and a resumed run continues with
exactly the samples that it would have shown. Axes: N sample, D draw.
"""

import numpy as np


def sample_weights(label_N: np.ndarray, patient_N: np.ndarray, balance: float) -> np.ndarray:
    """Returns the probability of each sample; they sum to 1.

    With `balance` 0 the data keep their frequencies. With 1 every label has the same total weight and, within a label,
    every patient. In between, weights are proportional to the frequency to the power of minus `balance`.
    """
    if not 0 <= balance <= 1:
        raise ValueError(f"balance is {balance}; a number from 0 (as the data are) to 1 (all equal) is needed.")
    _, label_index_N, label_counts = np.unique(label_N, return_inverse=True, return_counts=True)
    _, patient_index_N = np.unique(patient_N, return_inverse=True)
    pair_N = label_index_N * (patient_index_N.max() + 1) + patient_index_N
    _, pair_index_N, pair_counts = np.unique(pair_N, return_inverse=True, return_counts=True)
    within_N = pair_counts[pair_index_N] ** -balance
    total_of_label = np.bincount(label_index_N, within_N)
    weights_N = label_counts[label_index_N] ** (1 - balance) * within_N / total_of_label[label_index_N]
    return weights_N / weights_N.sum()


def epoch_rows(
    label_N: np.ndarray,
    patient_N: np.ndarray,
    *,
    draws: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    balance: float = 1.0,
) -> np.ndarray:
    """Returns the rows that worker `rank` of `world` shows in `epoch`, in order.

    Uses systematic resampling: each sample is drawn its expected number of times, rounded either down or up, so an
    epoch over balanced data with one draw per sample shows each sample once.
    """
    rng = np.random.default_rng([seed, epoch])
    order_N = rng.permutation(len(label_N))
    ends_N = np.cumsum(sample_weights(label_N, patient_N, balance)[order_N])
    picks_D = (np.arange(draws) + rng.random()) / draws
    rows_D = order_N[np.minimum(np.searchsorted(ends_N, picks_D, side="right"), len(label_N) - 1)]
    return rng.permutation(rows_D)[rank::world]
