"""Alerts and dashboard of the chart: promtool's own tests of each rule, and names that the service really exports."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import serving.gateway.metrics  # noqa: F401 (it registers its metrics)
from echoplane.edge import fleet_metrics
from echoplane.monitoring import metrics, monitor_metrics
from echoplane.monitoring.alerts import ALERTS, FILES, rules_yaml
from echoplane.monitoring.prometheus_dashboards import DASHBOARDS
from helm import dashboards
from tests.alert_cases import CASES, Case

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "helm" / "echoplane" / "files" / "rules").glob("*.yaml"))
BOARDS = sorted((ROOT / "helm" / "echoplane" / "files" / "dashboards").glob("*.json"))
promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not on the PATH")


def rules() -> list[dict]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict]:
    return [panel for path in BOARDS for panel in json.loads(path.read_text())["panels"]]


def queries() -> list[str]:
    of_panels = [target["expr"] for panel in panels() for target in panel["targets"]]
    return of_panels + [rule["expr"] for rule in rules()]


def exported() -> set[str]:
    """Names of the series that the service, the monitor, the gateway and the fleet's status export."""
    monitors = {one.series for one in (*monitor_metrics.DEFINITIONS, *fleet_metrics.DEFINITIONS)}
    return monitors | {sample for metric in metrics.REGISTRY.collect() for sample in _series(metric.name, metric.type)}


def _series(name: str, kind: str) -> list[str]:
    return {"counter": [f"{name}_total"], "histogram": [f"{name}_{end}" for end in ("bucket", "sum", "count")]}.get(
        kind, [name]
    )


@pytest.mark.parametrize("query", queries())
def test_queries_name_series_that_the_service_exports(query: str) -> None:
    named = set(re.findall(r"\bechoplane_\w+", query))
    assert named
    assert named <= exported()


def promtool_test(case: Case) -> dict:
    alert = next(one for one in ALERTS if one.name == case.alert)
    fired = {
        "exp_labels": {"severity": alert.severity} | (case.fires or {}),
        "exp_annotations": {"summary": alert.summary, "description": case.description, "runbook": alert.runbook},
    }
    asked = {"eval_time": case.at, "alertname": case.alert}
    return {
        "name": f"{case.alert}: {case.what}",
        "interval": case.interval,
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [asked if case.fires is None else asked | {"exp_alerts": [fired]}],
    }


@promtool
def test_alerts_fire_when_they_must_and_only_then(tmp_path: Path) -> None:
    """Each alert alone: promtool evaluates every rule of a file at every minute of every case."""
    files = []
    for rule in rules():
        name = rule["alert"]
        alone, tests = tmp_path / f"{name}.rule.yaml", tmp_path / f"{name}.yaml"
        alone.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": [rule]}]}, width=1000))
        cases = [promtool_test(case) for case in CASES if case.alert == name]
        content = {"rule_files": [str(alone)], "evaluation_interval": "1m", "tests": cases}
        tests.write_text(yaml.safe_dump(content, width=1000))
        files.append(str(tests))
    for arguments in (["check", "rules", *map(str, RULES)], ["test", "rules", *files]):
        outcome = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_must_not() -> None:
    names = {rule["alert"] for rule in rules()}
    assert {case.alert for case in CASES if case.fires is not None} == names
    assert {case.alert for case in CASES if case.fires is None} == names


def test_the_charts_rules_are_those_of_the_code() -> None:
    assert {path.stem: path.read_text() for path in RULES} == {part: rules_yaml(part) for part in FILES}, (
        "run `make docs`"
    )


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_has_a_runbook_entry(rule: dict) -> None:
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings


@promtool
def test_dashboard_queries_are_promql(tmp_path: Path) -> None:
    """Each as a recording rule, with Grafana's variables filled in."""
    filled = [
        target["expr"].replace("$__rate_interval", "5m").replace("$task", ".*")
        for panel in panels()
        for target in panel["targets"]
    ]
    wrapped = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(filled)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": wrapped}]}))
    outcome = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_every_panel_is_a_sentence_with_its_unit_and_links_to_a_runbook() -> None:
    names = {alert.name for alert in ALERTS}
    for panel in [panel for dashboard in DASHBOARDS for panel in dashboard.panels]:
        assert re.search(r"\(.+\)$|share of the threshold$", panel.title), panel.title
        assert panel.description.endswith("."), panel.title
        assert panel.unit
        assert panel.alert in names
    assert all(panel["links"][0]["url"].startswith("${runbooks}#echoplane") for panel in panels())


def test_the_charts_dashboards_are_those_of_the_code() -> None:
    assert {path.name: path.read_text() for path in BOARDS} == dashboards.chart_files(), "run `make docs`"
