"""Evidence that continuous streams drift from their references, by a conformal test martingale per stream.

The rank of each new value among the reference and all values before it is uniform as long as nothing drifts, whatever
the distribution is (Vovk, Nouretdinov, Gammerman 2003). The Simple Jumper bets on ranks that are too high, too low or
too extreme, and the Shiryaev-Roberts sum of such bets, one started at every study, is expected to grow by at most 1
per study (Vovk et al. 2021, "Retrain or not retrain").

Studies are added many at a time, with the same result as one by one; stakes may differ in their last digits, by some
1e-12 of their value. Axes: N study, S stream, B bet.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.linalg.blas import dtbsv

MAX_POOL = 20_000
"""Maximum number of values that a new one is ranked among. Earlier values stay; later ones are not added."""
MAX_HISTORY = 4_000
"""Number of the latest studies among which the start of a drift is searched."""
JUMP = 0.01
"""Share of its stake that the Simple Jumper moves between its bets per study."""
PAIRED = 64
"""Values that join a pool at once; each is compared with those before it in pairs."""
BETS = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
"""Slopes of each bet on the rank (high or low) and on its distance from the middle (extreme); the last does not bet."""

_MOVES = (1 - JUMP) * np.eye(len(BETS)) + JUMP / len(BETS)
"""Share of the stake of each bet that is on each bet at the next study."""


def gains(p_values: np.ndarray) -> np.ndarray:
    """Returns the factor of each bet at `p_values`, with one more axis, the bet: 1 on average if ranks are uniform."""
    centred = p_values - 0.5
    extreme = 2 * abs(centred) - 0.5
    return np.stack([1 + slope * centred + spread * extreme for slope, spread in BETS], axis=-1)


def _bands() -> np.ndarray:
    """Returns the bands below the diagonal in `stakes_after` (bet after, bet before, place below the diagonal), as
    shares of the factor of the bet after."""
    bands = np.zeros((len(BETS), len(BETS), 2 * len(BETS)))
    for after, before in np.ndindex(_MOVES.shape):
        bands[after, before, len(BETS) + after - before] = -_MOVES[before, after]
    return bands


_BANDS = _bands()


def stakes_after(stakes_SB: np.ndarray, factors_SNB: np.ndarray) -> np.ndarray:
    """Returns the stakes of the bets after each study (S, N, B): `stakes_SB` are those before the first, `factors_SNB`
    what each bet gains by each study, of which there is at least one.

    Stakes move between the bets, a sum begins at every study with its stake spread over them, and each bet gains its
    factor: (stakes @ _MOVES + 1 / B) * factors. For all studies of a stream these are the equations of a triangular
    matrix with 2 B - 1 bands below its diagonal of ones. No term is negative, so nothing cancels out.
    """
    after_SNB = factors_SNB / len(BETS)
    after_SNB[:, 0] += stakes_SB @ _MOVES * factors_SNB[:, 0]
    bands_NX = np.zeros((factors_SNB.shape[1], _BANDS[0].size))  # the last study has no later one
    for number, factors_NB in enumerate(factors_SNB):
        np.matmul(factors_NB[1:], _BANDS.reshape(len(BETS), -1), bands_NX[:-1])
        bands = bands_NX.reshape(-1, 2 * len(BETS)).T
        after = dtbsv(len(bands) - 1, bands, after_SNB[number].ravel(), lower=1, diag=1)
        after_SNB[number] = after.reshape(factors_NB.shape)
    # a stake beyond the largest number is infinite, as are all later ones; times an empty band it is no number
    after_SNB[np.isnan(after_SNB)] = np.inf
    return after_SNB


class RankStreams:
    """The streams of one group of studies.

    `reference` holds one value per validation study by name of stream. `seed` breaks ties between equal values. Raises
    ValueError if there is no stream, or one has no value or one that is not finite.
    """

    def __init__(self, reference: Mapping[str, Sequence[float]], seed: int = 0) -> None:
        if not reference:
            raise ValueError("a task is watched by at least one stream.")
        self.names = tuple(sorted(reference))
        self.pools = [np.sort(np.array(reference[name], float)) for name in self.names]
        if not all(pool.size and np.isfinite(pool).all() for pool in self.pools):
            raise ValueError("the reference of a stream needs at least one value, all finite.")
        self._seed = seed
        self.restore(self.pools, np.zeros((len(self.names), len(BETS))), np.empty((0, len(self.names))), 0)

    def restore(self, pools: Sequence[np.ndarray], stakes_SB: np.ndarray, p_values_NS: np.ndarray, count: int) -> None:
        """Goes on from the stored state of the same streams after `count` studies."""
        self.pools, self.stakes_SB, self.p_values_NS, self.count = list(pools), stakes_SB, p_values_NS, count
        self._random = [  # one draw per study
            np.random.Generator(np.random.PCG64(self._seed + number).advance(count)) for number in range(len(pools))
        ]

    @property
    def evidence(self) -> dict[str, float]:
        """Evidence of each stream by its name."""
        return dict(zip(self.names, self.stakes_SB.sum(axis=-1).tolist(), strict=True))

    @property
    def mean_evidence(self) -> float:
        return float(self.stakes_SB.sum(axis=-1).mean())

    @property
    def strongest(self) -> str:
        """Name of the stream with most evidence."""
        return self.names[int(self.stakes_SB.sum(axis=-1).argmax())]

    def ranked(self, values_NS: np.ndarray) -> np.ndarray:
        """Returns the p-value of each new value: its smoothed rank among the pool and the values before it. The values
        join the pools as far as these have room. One that is not finite counts as the most extreme."""
        values_NS = np.where(np.isfinite(values_NS), values_NS, np.inf)
        p_values_NS = np.empty(values_NS.shape)
        for number, values_N in enumerate(values_NS.T):
            below_N, upto_N, size_N = self._counted(number, values_N)
            ties_N = upto_N - below_N + 1  # the value itself is one of them
            random_N = self._random[number].random(len(values_N))
            p_values_NS[:, number] = (below_N + random_N * ties_N) / (size_N + 1)
        return p_values_NS

    def _counted(self, number: int, values_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns how many of the pool and the values before each are below it, how many below or equal, and how many
        there are."""
        joining = max(0, min(len(values_N), MAX_POOL - len(self.pools[number])))
        parts = [
            self._joined(number, values_N[start : start + PAIRED][: joining - start])
            for start in range(0, joining, PAIRED)
        ]
        pool = self.pools[number]
        below_N, upto_N = _places(pool, values_N[joining:])
        parts.append((below_N, upto_N, np.full(len(below_N), len(pool))))
        below, upto, sizes = zip(*parts, strict=True)
        return np.concatenate(below), np.concatenate(upto), np.concatenate(sizes)

    def _joined(self, number: int, values_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what `_counted` does, and adds the values to the pool."""
        pool = self.pools[number]
        below_N, upto_N = _places(pool, values_N)
        is_before_NN = np.tri(len(values_N), k=-1, dtype=bool)
        below_N += ((values_N < values_N[:, None]) & is_before_NN).sum(axis=1)
        upto_N += ((values_N <= values_N[:, None]) & is_before_NN).sum(axis=1)
        sorted_N = np.sort(values_N)
        self.pools[number] = np.insert(pool, np.searchsorted(pool, sorted_N), sorted_N)
        return below_N, upto_N, len(pool) + np.arange(len(values_N))

    def bet(self, stakes_SB: np.ndarray, p_values_NS: np.ndarray) -> None:
        """Takes over `stakes_SB` after the studies with `p_values_NS`, which are one or more."""
        self.stakes_SB = stakes_SB
        self.p_values_NS = np.concatenate([self.p_values_NS, p_values_NS])[-MAX_HISTORY:]
        self.count += len(p_values_NS)

    def p_values_of(self, name: str) -> np.ndarray:
        """Returns the p-values of one stream's latest studies (N), oldest first."""
        return self.p_values_NS[:, self.names.index(name)]

    def studies_since_change(self, name: str) -> int:
        """Returns for about how many studies the stream has drifted: the last ones on which the winning bet gained most
        (the estimate of a CUSUM test; Page 1954)."""
        if not self.count:
            return 0
        winning = int(self.stakes_SB[self.names.index(name), :-1].argmax())  # the last one does not bet
        logs_N = np.log(gains(self.p_values_of(name))[:, winning])
        return int(np.argmax(np.cumsum(logs_N[::-1]))) + 1


def _places(pool: np.ndarray, values_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many of the sorted `pool` are below each value, and how many below or equal."""
    order_N = np.argsort(values_N)  # a search in order touches the same memory again
    sorted_N = values_N[order_N]
    left_N = np.searchsorted(pool, sorted_N, "left")
    right_N = left_N.copy()
    is_tied_N = pool[np.minimum(left_N, len(pool) - 1)] == sorted_N
    right_N[is_tied_N] = np.searchsorted(pool, sorted_N[is_tied_N], "right")
    below_N, upto_N = np.empty(len(values_N), int), np.empty(len(values_N), int)
    below_N[order_N], upto_N[order_N] = left_N, right_N
    return below_N, upto_N
