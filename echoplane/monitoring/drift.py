"""Sequential tests that say when studies in service stop looking like those that a model was validated on.

A continuous stream (a confidence, a brightness, a distance of embeddings) is tested by a conformal test martingale:
the rank of each new value among the reference and all values before it is uniform as long as nothing drifts, whatever
the distribution is (Vovk, Nouretdinov, Gammerman 2003). The Simple Jumper bets on ranks that are too high, too low or
too extreme, and the Shiryaev-Roberts sum of such bets, one started at every study, is expected to grow by at most 1
per study (Vovk et al. 2021, "Retrain or not retrain"). It therefore takes at least THRESHOLD studies on average to
reach THRESHOLD without drift. The mean over several streams keeps that bound, so one task raises one alarm.

Shares of labels are tested over windows by a permutation test, whose level is exact for any number of studies.

The unit is the study: clips of one study are not independent.
"""

import bisect
import math
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

Number = TypeVar("Number", float, np.ndarray)

WINDOW = 200
"""Studies of one window of the label test."""
THRESHOLD = 40_000.0
"""Evidence that raises an alarm: at most 1 false alarm in 200 windows of 200 studies on average."""
LABEL_LEVEL = 0.005
"""Probability of a false alarm of the label test per window. Together with THRESHOLD: 1 in 100 windows."""
MAX_POOL = 20_000
"""Maximum number of values that a new one is ranked among. Earlier values stay; later ones are not added."""
MAX_HISTORY = 4_000
"""Number of the latest studies among which the start of a drift is searched."""
ALL = "all"
"""Name of the group of all studies."""
JUMP = 0.01
"""Share of its stake that the Simple Jumper moves between its bets per study."""
BETS = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
"""Slopes of each bet on the rank (high or low) and on its distance from the middle (extreme); the last does not bet."""


def gains(p_value: Number) -> list[Number]:
    """Returns the factor of each bet at `p_value`, a number or an array: 1 on average if ranks are uniform."""
    centred = p_value - 0.5
    extreme = 2 * abs(centred) - 0.5
    return [1 + slope * centred + spread * extreme for slope, spread in BETS]


@dataclass
class RankStream:
    """Evidence that one continuous stream drifts from its reference.

    `reference` holds one value per validation study. `seed` breaks ties between equal values.
    """

    reference: Sequence[float]
    seed: int = 0
    evidence: float = 0.0
    p_values: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_HISTORY))

    def __post_init__(self) -> None:
        if not self.reference or not np.isfinite(self.reference).all():
            raise ValueError("the reference of a stream needs at least one value, all finite.")
        self.pool = sorted(map(float, self.reference))
        self.stakes = [0.0] * len(BETS)
        self.count = 0
        self._random = np.random.default_rng(self.seed)

    def restore(self, pool: Sequence[float], stakes: Sequence[float], p_values: Sequence[float], count: int) -> None:
        """Goes on from the stored state of a stream with the same reference and seed, after `count` studies."""
        self.pool, self.stakes, self.count = list(pool), list(stakes), count
        self.p_values = deque(p_values, maxlen=MAX_HISTORY)
        self.evidence = sum(self.stakes)
        self._random = np.random.Generator(np.random.PCG64(self.seed).advance(count))  # one draw per study

    def add(self, value: float) -> None:
        """Ranks one study's `value`; a value that is not finite counts as the most extreme."""
        value = float(value) if math.isfinite(value) else math.inf
        p_value = self._rank(value)
        self.count += 1
        if len(self.pool) < MAX_POOL:
            bisect.insort(self.pool, value)
        self.p_values.append(p_value)
        moved = (JUMP * self.evidence + 1) / len(BETS)
        factors = gains(p_value)
        self.stakes = [
            ((1 - JUMP) * stake + moved) * factor for stake, factor in zip(self.stakes, factors, strict=True)
        ]
        self.evidence = sum(self.stakes)

    def _rank(self, value: float) -> float:
        """Returns the smoothed share of the pool below `value`: uniform on (0, 1) if values are exchangeable."""
        below, upto = bisect.bisect_left(self.pool, value), bisect.bisect_right(self.pool, value)
        ties = upto - below + 1  # the value itself is one of them
        return (below + self._random.uniform() * ties) / (len(self.pool) + 1)

    def studies_since_change(self) -> int:
        """Returns for about how many studies the stream has drifted: the last ones on which the winning bet gained most
        (the estimate of a CUSUM test; Page 1954)."""
        if not self.p_values:
            return 0
        winning = int(np.argmax(self.stakes[:-1]))  # the last one does not bet
        logs = np.log(gains(np.array(self.p_values))[winning])
        return int(np.argmax(np.cumsum(logs[::-1]))) + 1


@dataclass(frozen=True)
class LabelChange:
    """Result of the label test on one window: `label` is the one whose share changed most."""

    p_value: float
    label: str
    share: float
    reference_share: float


def compare_labels(
    reference: Mapping[str, int], window: Mapping[str, int], *, draws: int = 4_000, seed: int = 0
) -> LabelChange:
    """Returns whether `window`'s counts of labels are a sample of the same studies as the `reference`'s.

    The p-value is that of Pearson's statistic under random division of all studies into the two sets (a Monte Carlo
    permutation test), valid at any size. Raises ValueError if either is empty.
    """
    names = sorted(set(reference) | set(window))
    counts = np.array([[reference.get(name, 0) for name in names], [window.get(name, 0) for name in names]])
    if not counts.sum(axis=1).all():
        raise ValueError("both sets need at least one study.")
    size = int(counts[1].sum())
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(counts.sum(axis=0), size, size=draws)
    expected = counts.sum(axis=0) * size / counts.sum()
    statistic = ((counts[1] - expected) ** 2 / expected).sum()
    # a sum of the same terms in another order may differ in its last bits
    reached = (((drawn - expected) ** 2 / expected).sum(axis=1) >= statistic * (1 - 1e-9)).sum()
    shares = counts / counts.sum(axis=1, keepdims=True)
    most = int(np.argmax(np.abs(shares[1] - shares[0])))
    return LabelChange(float(1 + reached) / (1 + draws), names[most], float(shares[1, most]), float(shares[0, most]))


@dataclass(frozen=True)
class Alarm:
    """Alarm for one task: `stream` is the one that changed most; `studies` is the number of studies since the change.

    `groups` are the groups in which it changed, at most one of each kind, the strongest first; none if all studies
    changed. Stream and number are those of the first group.
    """

    stream: str
    studies: int
    evidence: float
    label: LabelChange | None = None
    groups: tuple[str, ...] = ()


Streams = dict[str, RankStream]


def mean_evidence(streams: Streams) -> float:
    return sum(stream.evidence for stream in streams.values()) / len(streams)


class TaskMonitor:
    """Monitors one task of one model version: all studies together, and those of each group.

    `reference`: values by name of stream, one per validation study. `labels`: number of validation studies answered
    with each label. An alarm stays until `restart`. Evidence is the mean over all studies and the groups, so that
    groups add no false alarms; every study must name the same number of groups.
    """

    def __init__(self, reference: Mapping[str, Sequence[float]], labels: Mapping[str, int], *, seed: int = 0) -> None:
        if not reference:
            raise ValueError("a task is watched by at least one stream.")
        self._reference = {name: tuple(values) for name, values in reference.items()}
        self._labels = dict(labels)
        self._seed = seed
        self.restart()

    def restart(self) -> None:
        """Starts again from the reference, with no evidence and no alarm."""
        self.groups: dict[str, Streams] = {ALL: self.new_streams(ALL)}
        self.studies = 0
        self.alarm: Alarm | None = None
        self.window: dict[str, int] = {}

    @property
    def streams(self) -> Streams:
        """The streams of all studies together."""
        return self.groups[ALL]

    @property
    def evidence(self) -> float:
        """Mean evidence over the groups' streams; an alarm is raised at THRESHOLD."""
        return sum(map(mean_evidence, self.groups.values())) / len(self.groups)

    def new_streams(self, group: str) -> Streams:
        """Returns the streams of a group without studies. Ties are broken in each by other random numbers."""
        first = self._seed if group == ALL else self._seed + zlib.crc32(group.encode())
        return {
            name: RankStream(values, seed=first + number)
            for number, (name, values) in enumerate(sorted(self._reference.items()))
        }

    def add(self, values: Mapping[str, float], label: str, groups: Sequence[str] = ()) -> Alarm | None:
        """Adds one answered study, which belongs to `groups`, and returns the alarm if there is one. Raises KeyError if
        the value of a stream is missing."""
        for group in (ALL, *groups):
            if group not in self.groups:
                self.groups[group] = self.new_streams(group)
            for name, stream in self.groups[group].items():
                stream.add(values[name])
        self.studies += 1
        self.window[label] = self.window.get(label, 0) + 1
        if self.alarm is None:
            self.alarm = self._stream_alarm() or self._label_alarm()
        if sum(self.window.values()) >= WINDOW:
            self.window = {}
        return self.alarm

    def _stream_alarm(self) -> Alarm | None:
        if self.evidence < THRESHOLD:
            return None
        groups = self.changed_groups()
        streams = self.groups[groups[0]] if groups else self.streams
        name = max(streams, key=lambda one: streams[one].evidence)
        return Alarm(name, streams[name].studies_since_change(), self.evidence, groups=groups)

    def changed_groups(self) -> tuple[str, ...]:
        """Returns the groups in which studies changed more than they did overall, the strongest of each kind.

        A group that holds every study tells nothing. The first word of a group is its kind.
        """
        strongest: dict[str, str] = {}
        for group in sorted(self.groups, key=lambda one: mean_evidence(self.groups[one])):
            is_part = next(iter(self.groups[group].values())).count < self.studies
            if is_part and mean_evidence(self.groups[group]) > mean_evidence(self.streams):
                strongest[group.partition(" ")[0]] = group
        return tuple(sorted(strongest.values(), key=lambda one: -mean_evidence(self.groups[one])))

    def _label_alarm(self) -> Alarm | None:
        if not self._labels or sum(self.window.values()) < WINDOW:
            return None
        change = compare_labels(self._labels, self.window, seed=self._seed + self.studies)
        return Alarm("label", WINDOW, self.evidence, change) if change.p_value <= LABEL_LEVEL else None
