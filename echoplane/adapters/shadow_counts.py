"""Reads how often a challenger agreed with the champion: from the metrics of services, or from Prometheus."""

from collections.abc import Sequence

import httpx
from prometheus_client.parser import text_string_to_metric_families

from echoplane.errors import ConfigError

METRIC = "echoplane_shadow_answers_total"
OUTCOMES = ("agreed", "differed", "failed")
TIMEOUT_S = 10


def counts_of_services(addresses: Sequence[str], task: str, version: str, token: str = "") -> dict[str, int]:
    """Returns the number of answers by outcome, summed over services (each counts since it started)."""
    total = dict.fromkeys(OUTCOMES, 0)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for address in addresses:
        text = _get(f"{address.rstrip('/')}/metrics", {}, headers).text
        for sample in (s for family in text_string_to_metric_families(text) for s in family.samples):
            if sample.name == METRIC and sample.labels["task"] == task and sample.labels["version"] == version:
                outcome = sample.labels["outcome"]
                total[outcome] = total.get(outcome, 0) + int(sample.value)
    return total


def counts_of_prometheus(address: str, task: str, version: str, days: int) -> dict[str, int]:
    """Returns the number of answers by outcome in the last `days`, as Prometheus counted them in every service."""
    query = f'sum by (outcome) (increase({METRIC}{{task="{task}",version="{version}"}}[{days}d]))'
    answer = _get(f"{address.rstrip('/')}/api/v1/query", {"query": query}, {}).json()
    total = dict.fromkeys(OUTCOMES, 0)
    for series in answer["data"]["result"]:
        if series["metric"].get("outcome") in total:
            total[series["metric"]["outcome"]] = int(float(series["value"][1]))
    return total


def _get(url: str, query: dict[str, str], headers: dict[str, str]) -> httpx.Response:
    try:
        response = httpx.get(url, params=query, headers=headers, timeout=TIMEOUT_S)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise ConfigError(f"shadow evidence can't be read ({type(error).__name__}): check the address.") from None
    return response
