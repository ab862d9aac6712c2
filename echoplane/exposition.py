"""Metrics as data, and their text in Prometheus' exposition format."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True)
class Definition:
    """One metric: its name without the suffix `_total` of a counter, its type, its meaning, its labels."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> str:
        return f"{self.name}_total" if self.kind == "counter" else self.name


Values = Mapping[str, Sequence[tuple[tuple[str, ...], float]]]
"""Label values and value of each series, by name of metric."""


def families(definitions: Iterable[Definition], values: Values) -> Iterator[Metric]:
    """Yields the metrics of `values`. Raises KeyError if one of them is not defined."""
    by_name = {one.name: one for one in definitions}
    for name, series in values.items():
        definition = by_name[name]
        family = GaugeMetricFamily if definition.kind == "gauge" else CounterMetricFamily
        metric = family(definition.name, definition.help, labels=definition.labels)
        for labels, value in series:
            metric.add_metric(labels, value)
        yield metric


class _Once(Collector):
    """Collects the same metrics each time."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(definitions: Iterable[Definition], values: Values) -> bytes:
    """Returns the text of `values`, every label value escaped. Raises KeyError if one of them is not defined."""
    registry = CollectorRegistry()
    registry.register(_Once(list(families(definitions, values))))
    return generate_latest(registry)
