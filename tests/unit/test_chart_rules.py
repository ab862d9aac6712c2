"""Alerts and dashboard of the chart: promtool's own tests of each rule, and names that the service really exports."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from echoplane.monitoring import metrics

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "helm" / "echoplane" / "files" / "rules.yaml"
DASHBOARD = ROOT / "helm" / "echoplane" / "files" / "dashboard.json"
TESTS = Path(__file__).with_name("chart_rules.yaml")
promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not on the PATH")


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict]:
    return json.loads(DASHBOARD.read_text())["panels"]


def queries() -> list[str]:
    of_panels = [target["expr"] for panel in panels() for target in panel["targets"]]
    return of_panels + [rule["expr"] for rule in rules()]


def exported() -> set[str]:
    """Names of the series that the service exports."""
    return {sample for metric in metrics.REGISTRY.collect() for sample in _series(metric.name, metric.type)}


def _series(name: str, kind: str) -> list[str]:
    return {"counter": [f"{name}_total"], "histogram": [f"{name}_{end}" for end in ("bucket", "sum", "count")]}.get(
        kind, [name]
    )


@pytest.mark.parametrize("query", queries())
def test_queries_name_series_that_the_service_exports(query: str) -> None:
    named = set(re.findall(r"\bechoplane_\w+", query))
    assert named
    assert named <= exported()


@promtool
def test_rules_pass_their_own_tests() -> None:
    for arguments in (["check", "rules", str(RULES)], ["test", "rules", str(TESTS)]):
        outcome = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_every_alert_has_a_test_that_fires_and_one_that_must_not() -> None:
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


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


def test_every_panel_says_what_it_shows_and_in_what_unit() -> None:
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
