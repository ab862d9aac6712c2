"""Sequential tests that say when studies in service stop looking like those that a model was validated on.

Continuous streams (a confidence, a brightness, a distance of embeddings) are tested by martingales, whose evidence is
expected to grow by at most 1 per study without drift (`echoplane.monitoring.rank_streams`). It therefore takes at least
THRESHOLD studies on average to reach THRESHOLD. The mean over several streams keeps that bound, so one task raises one
alarm.

Shares of labels are tested over windows by a permutation test, whose level is exact for any number of studies.

The unit is the study: clips of one study are not independent.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from echoplane.monitoring.rank_streams import RankStreams, gains, stakes_after

WINDOW = 200
"""Studies of one window of the label test."""
THRESHOLD = 40_000.0
"""Evidence that raises an alarm: at most 1 false alarm in 200 windows of 200 studies on average."""
LABEL_LEVEL = 0.005
"""Probability of a false alarm of the label test per window. Together with THRESHOLD: 1 in 100 windows."""
FEW_DRAWS, FAR_FROM_LEVEL = 200, 0.1
"""Random divisions of the label test after which a window is judged if its p-value is so large."""
ALL = "all"
"""Name of the group of all studies."""
BLOCK = 2_048
"""Studies that are ranked at once; it bounds the memory."""


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
    permutation test), valid at any size. After FEW_DRAWS it is taken as it is if it is over FAR_FROM_LEVEL, which saves
    most windows the other draws and adds no false alarm. Raises ValueError if either set is empty.
    """
    names = sorted(set(reference) | set(window))
    counts = np.array([[reference.get(name, 0) for name in names], [window.get(name, 0) for name in names]])
    if not counts.sum(axis=1).all():
        raise ValueError("both sets need at least one study.")
    size = int(counts[1].sum())
    expected = counts.sum(axis=0) * size / counts.sum()
    statistic = ((counts[1] - expected) ** 2 / expected).sum()
    rng = np.random.default_rng(seed)
    reached = done = 0
    for more in (min(FEW_DRAWS, draws), max(0, draws - FEW_DRAWS)):
        if done and (1 + reached) / (1 + done) > FAR_FROM_LEVEL:
            break
        drawn = rng.multivariate_hypergeometric(counts.sum(axis=0), size, size=more)
        # a sum of the same terms in another order may differ in its last bits
        reached += int((((drawn - expected) ** 2 / expected).sum(axis=1) >= statistic * (1 - 1e-9)).sum())
        done += more
    shares = counts / counts.sum(axis=1, keepdims=True)
    most = int(np.argmax(np.abs(shares[1] - shares[0])))
    return LabelChange((1 + reached) / (1 + done), names[most], float(shares[1, most]), float(shares[0, most]))


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


@dataclass(frozen=True)
class _Part:
    """The studies of one group among those that are added together: `number_N` is their places among these;
    `p_values_NS` their ranks in the group, and `stakes_NSB` the group's stakes after each."""

    number_N: np.ndarray
    p_values_NS: np.ndarray
    stakes_NSB: np.ndarray


class TaskMonitor:
    """Monitors one task of one model version: all studies together, and those of each group.

    `reference`: values by name of stream, one per validation study. `labels`: number of validation studies answered
    with each label. An alarm stays until `restart`. Evidence is the mean over all studies and the groups, so that
    groups add no false alarms; every study must name the same number of groups.

    Axes: N study, K group of a study, G group, S stream, B bet.
    """

    def __init__(self, reference: Mapping[str, Sequence[float]], labels: Mapping[str, int], *, seed: int = 0) -> None:
        self._reference = {name: tuple(values) for name, values in reference.items()}
        self._labels = dict(labels)
        self._seed = seed
        self.restart()

    def restart(self) -> None:
        """Starts again from the reference, with no evidence and no alarm."""
        self.groups: dict[str, RankStreams] = {ALL: self.new_streams(ALL)}
        self.studies = 0
        self.alarm: Alarm | None = None
        self.window: dict[str, int] = {}

    @property
    def streams(self) -> RankStreams:
        """The streams of all studies together."""
        return self.groups[ALL]

    @property
    def evidence(self) -> float:
        """Mean evidence over the groups' streams; an alarm is raised at THRESHOLD."""
        return sum(streams.mean_evidence for streams in self.groups.values()) / len(self.groups)

    def new_streams(self, group: str) -> RankStreams:
        """Returns the streams of a group without studies. Ties are broken in each by other random numbers."""
        return RankStreams(self._reference, self._seed if group == ALL else self._seed + zlib.crc32(group.encode()))

    def add(self, values: Mapping[str, float], label: str, groups: Sequence[str] = ()) -> Alarm | None:
        """Adds one answered study, which belongs to `groups`, and returns the alarm if there is one. Raises KeyError if
        the value of a stream is missing."""
        self.add_all(np.array([[values[name] for name in self.streams.names]]), [label], [groups])
        return self.alarm

    def add_all(self, values_NS: np.ndarray, labels: Sequence[str], groups: Sequence[Sequence[str]]) -> np.ndarray:
        """Adds answered studies, oldest first, with the same result as one by one, and returns the evidence after each.

        `values_NS` has the streams in the order of `self.streams.names`; a label and groups belong to each study.
        """
        evidence = [
            self._add_block(values_NS[start : start + BLOCK], labels[start:], groups[start:])
            for start in range(0, len(values_NS), BLOCK)
        ]
        return np.concatenate([np.empty(0), *evidence])

    def _add_block(self, values_NS: np.ndarray, labels: Sequence[str], groups: Sequence[Sequence[str]]) -> np.ndarray:
        groups_NK, known_N = self._positions(groups[: len(values_NS)])
        parts = [
            _part(streams, values_NS, np.flatnonzero((groups_NK == position).any(axis=1)))
            for position, streams in enumerate(self.groups.values())
        ]
        evidence_N = self._evidence_after(parts, known_N)
        start = taken = 0
        while start < len(values_NS):
            stop = min(len(values_NS), start + WINDOW - sum(self.window.values()))
            is_reached_N = evidence_N[start:stop] >= THRESHOLD
            if self.alarm is None and is_reached_N.any():
                stop = start + int(is_reached_N.argmax()) + 1
                self._take_over(parts, taken, stop)  # the alarm looks at the streams as they are at that study
                taken = stop
            self.studies += stop - start
            self._look(labels[start:stop], float(evidence_N[stop - 1]))
            start = stop
        self._take_over(parts, taken, len(values_NS))
        return evidence_N

    def _positions(self, groups: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Returns `groups_NK` and `known_N` of a block, and makes the groups that are new."""
        place = {group: position for position, group in enumerate(self.groups)}
        found: dict[tuple[str, ...], list[int]] = {}
        positions, known = [], []
        for own in map(tuple, groups):
            if own not in found:
                found[own] = [place.setdefault(group, len(place)) for group in (ALL, *own)]
            positions.append(found[own])
            known.append(len(place))
        for group in list(place)[len(self.groups) :]:
            self.groups[group] = self.new_streams(group)
        return np.array(positions), np.array(known)

    def _evidence_after(self, parts: Sequence[_Part], known_N: np.ndarray) -> np.ndarray:
        """Returns the evidence after each study; `known_N` is the number of groups known by then."""
        mean_NG = np.empty((len(known_N), len(parts)))
        for position, (part, streams) in enumerate(zip(parts, self.groups.values(), strict=True)):
            means = np.append(streams.mean_evidence, part.stakes_NSB.sum(axis=2).mean(axis=1))
            mean_NG[:, position] = means[np.searchsorted(part.number_N, np.arange(len(known_N)), "right")]
        return mean_NG.sum(axis=1) / known_N

    def _take_over(self, parts: Sequence[_Part], start: int, stop: int) -> None:
        """Leaves the streams of all groups as they are after the studies from `start` until `stop`."""
        for part, streams in zip(parts, self.groups.values(), strict=True):
            first, last = np.searchsorted(part.number_N, (start, stop))
            if first < last:
                streams.bet(part.stakes_NSB[last - 1].copy(), part.p_values_NS[first:last])

    def _look(self, labels: Sequence[str], evidence: float) -> None:
        """Raises the alarm if there is reason to, after studies with `labels` that left `evidence`."""
        for label in labels:
            self.window[label] = self.window.get(label, 0) + 1
        if self.alarm is None:
            self.alarm = self._stream_alarm(evidence) or self._label_alarm(evidence)
        if sum(self.window.values()) >= WINDOW:
            self.window = {}

    def _stream_alarm(self, evidence: float) -> Alarm | None:
        if evidence < THRESHOLD:
            return None
        groups = self.changed_groups()
        streams = self.groups[groups[0]] if groups else self.streams
        name = streams.strongest
        return Alarm(name, streams.studies_since_change(name), evidence, groups=groups)

    def changed_groups(self) -> tuple[str, ...]:
        """Returns the groups in which studies changed more than they did overall, the strongest of each kind.

        A group that holds every study tells nothing. The first word of a group is its kind.
        """
        strongest: dict[str, str] = {}
        for group in sorted(self.groups, key=lambda one: self.groups[one].mean_evidence):
            is_part = self.groups[group].count < self.studies
            if is_part and self.groups[group].mean_evidence > self.streams.mean_evidence:
                strongest[group.partition(" ")[0]] = group
        return tuple(sorted(strongest.values(), key=lambda one: -self.groups[one].mean_evidence))

    def _label_alarm(self, evidence: float) -> Alarm | None:
        if not self._labels or sum(self.window.values()) < WINDOW:
            return None
        change = compare_labels(self._labels, self.window, seed=self._seed + self.studies)
        return Alarm("label", WINDOW, evidence, change) if change.p_value <= LABEL_LEVEL else None


def _part(streams: RankStreams, values_NS: np.ndarray, number_N: np.ndarray) -> _Part:
    """Returns a group's studies, the `number_N`th of all, ranked among its values, which they join, and bet on."""
    if not len(number_N):
        return _Part(number_N, np.empty((0, values_NS.shape[1])), np.empty((0, *streams.stakes_SB.shape)))
    p_values_NS = streams.ranked(values_NS[number_N])
    stakes_SNB = stakes_after(streams.stakes_SB, gains(p_values_NS.T))
    return _Part(number_N, p_values_NS, stakes_SNB.swapaxes(0, 1))
