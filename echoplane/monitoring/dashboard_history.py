"""PromQL of the service's dashboard: what each panel draws live from the metrics, as a query for its history."""

from collections.abc import Mapping

from echoplane.monitoring.dashboards import Panel

Rule = tuple[str, tuple[str, ...]] | None


def queries(panel: Panel, window_s: int, labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns pairs of a query and the name of its line, which is empty if the lines are named by the label `panel.by`.

    Rates are means over `window_s`; `labels` select the installation's series. A table has no history.
    """
    if panel.kind == "table":
        return []
    return [(_query(panel, metric, window_s, labels), "" if panel.by else metric) for metric in panel.metrics]


def _query(panel: Panel, metric: str, window_s: int, labels: Mapping[str, str]) -> str:
    def rate(name: str, by: str, rule: Rule = None) -> str:
        return f"sum{by} (rate({name}{_selector(labels, rule)}[{window_s}s]))"

    by = f" by ({panel.by})" if panel.by else ""
    if panel.kind == "gauge":
        return f"sum{by} ({metric}{_selector(labels)})"
    if panel.kind == "rate":
        return f"60 * {rate(f'{metric}_total', by)}"
    if panel.kind == "quantile":
        by = f" by (le, {panel.by})" if panel.by else " by (le)"
        return f"1000 * histogram_quantile({panel.quantile}, {rate(f'{metric}_bucket', by)})"
    part, whole = rate(f"{metric}_total", by, panel.where), rate(f"{metric}_total", by, panel.of)
    return f"100 * ({part} or 0 * {whole}) / ({whole} > 0)"


def _selector(labels: Mapping[str, str], rule: Rule = None) -> str:
    """Returns matchers in braces. Values of rules are words of this code, so they need no escaping as expressions."""
    matchers = [f"{name}={_quoted(value)}" for name, value in labels.items()]
    if rule:
        matchers.append(f"{rule[0]}=~{_quoted('|'.join(rule[1]))}")
    return f"{{{', '.join(matchers)}}}" if matchers else ""


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
