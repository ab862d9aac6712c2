"""The view of the fleet, its page and its metrics, from reports that devices may have written wrongly on purpose."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from echoplane import cli
from echoplane.edge.fleet import Received, Report, Seen, ServiceCounts, TaskReport
from echoplane.edge.fleet_metrics import DEFINITIONS, OTHER, fleet_exposition
from echoplane.edge.fleet_page import fleet_page
from echoplane.edge.fleet_view import Fleet, Repository, fleet_of
from echoplane.edge.policy import Policy
from echoplane.edge.rollout import ALL, Candidate, Plan, TaskPlan, place
from echoplane.edge.upload import MAX_REPORT_BYTES, receive
from tests.tiny_bundle import make_tiny_bundle

TASK = "echo-view-video"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEW, OLD = "a" * 64, "b" * 64
BOXES = [f"box-{number}" for number in range(10)]
FIRST = min(BOXES, key=place)


def report(device: str, state: str = "serving", bundle: str = OLD, **changed: Any) -> Report:
    task = TaskReport(state=state, bundle=bundle, wanted=NEW, attempt=1, reason=changed.pop("reason", ""))
    known = {"device": device, "channel": "stable", "time": NOW, "version": "1.2", "tasks": {TASK: task}}
    return Report.model_validate(known | {"free_mib": 5000} | changed)


def plan(ring: str = "all", cut: str = ALL, halted: str = "") -> Plan:
    candidate = Candidate(bundle=NEW, ring=ring, cut=cut, since=NOW - timedelta(hours=30), halted=halted)
    return Plan(channel="stable", tasks={TASK: TaskPlan(stable=OLD, candidate=candidate)})


def fleet(*reports: Report, seen_h: float = 0, of: Plan | None = None, **more: Any) -> Fleet:
    seen = [Seen(one, NOW - timedelta(hours=seen_h)) for one in reports]
    repository = Repository({"stable": of or plan()}, NOW + timedelta(days=14))
    received = Received(seen, more.pop("unreadable", []))
    return fleet_of(repository, received, more.pop("expected", {}), Policy(), NOW)


def metrics(found: Fleet) -> dict[str, float]:
    families = text_string_to_metric_families(fleet_exposition(found).decode())
    return {f"{one.name}{sorted(one.labels.values())}": one.value for family in families for one in family.samples}


def test_each_device_has_its_ring_its_bundle_and_what_the_plan_wants_of_it_now() -> None:
    found = fleet(*(report(box, bundle=OLD) for box in BOXES), of=plan("first", place(FIRST)))
    by_name = {one.device: one for one in found.devices}
    assert {name for name, one in by_name.items() if one.ring == "first"} == {FIRST}
    assert {one.ring for one in found.devices} == {"first", "all"}
    stands = {name: one.tasks[0].stand for name, one in by_name.items()}
    assert stands == {box: "behind" if box == FIRST else "serving" for box in BOXES}
    assert by_name[FIRST].tasks[0].wanted == NEW
    assert found.unwell == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"state": "refused", "reason": "golden output: off by 5"}, "refused. golden output: off by 5"),
        ({"state": "waiting", "reason": "no space"}, "waiting. no space"),
        ({"state": "nothing"}, "nothing."),
        ({"free_mib": 1023}, "1023 MiB are free"),
        ({"problem": "the repository is out of reach"}, "out of reach"),
        ({"clock": "the clock shows 2020"}, "the clock shows 2020"),
        ({"time": NOW + timedelta(days=400)}, "Its clock showed 2027"),
        ({"channel": "elsewhere"}, "no plan"),
    ],
)
def test_a_trouble_is_named_and_comes_first(changed: dict[str, Any], words: str) -> None:
    found = fleet(report("box-1", bundle=NEW), report("box-9", **({"bundle": NEW} | changed)))
    assert found.devices[0].device == "box-9"
    assert words in " ".join(found.devices[0].troubles)
    assert found.unwell == 1


def test_a_device_is_unseen_by_the_arrival_of_its_report_and_not_by_its_clock() -> None:
    assert fleet(report("box-1", bundle=NEW), seen_h=23).unwell == 1, "its clock differs"
    (box,) = fleet(report("box-1", bundle=NEW, time=NOW + timedelta(days=9)), seen_h=25).devices
    assert "not been seen for 25 hours" in box.troubles[0]
    (silent,) = fleet(expected={"stable": ["box-7"]}).devices
    assert (silent.device, silent.troubles) == ("box-7", ("It has never reported.",))


HOSTILE = "<script>alert(1)</script>\u202e\n\"'&" + "x" * 1000


def test_the_page_escapes_what_devices_say_and_needs_nothing_else() -> None:
    hostile = report("box-1", "refused", reason=HOSTILE, version=HOSTILE, problem=HOSTILE, channel=HOSTILE)
    named = hostile.model_copy(update={"tasks": {HOSTILE: hostile.tasks[TASK]}})
    found = fleet(hostile, named, report("box-2", "refused", reason=HOSTILE), unreadable=[HOSTILE])
    assert found.rollouts[0].decision.action == "halt", "the first reason is shown, and kept in the plan"
    page = fleet_page(found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert "x" * 301 not in page
    assert not re.findall(r"(?:src|href)=", page)
    assert "default-src 'none'" in page


def test_the_page_says_who_needs_a_look_and_why_a_roll_out_is_halted() -> None:
    page = fleet_page(fleet(report("box-1", "refused", reason="no space"), of=plan(halted="more abstentions")))
    assert "1 of 1 devices need a look" in page
    assert "<strong>Halted:</strong> more abstentions" in page
    assert "All 1 devices are well" in fleet_page(fleet(report("box-1", bundle=NEW)))
    empty = fleet_of(Repository({}, NOW), Received([], []), {}, Policy(), NOW)
    assert "No device has reported" in fleet_page(empty)
    assert "The repository has expired" in fleet_page(empty)


def test_metrics_count_devices_by_ring_and_state_and_keep_the_time_of_each() -> None:
    boxes = [report(box, bundle=NEW) for box in BOXES if box not in (FIRST, "box-5")]
    found = metrics(fleet(*boxes, report(FIRST, "refused"), report("box-5", bundle=OLD), expected={"stable": ["new"]}))
    counts = {key: value for key, value in found.items() if key.startswith("echoplane_edge_devices") and value}
    assert sum(counts.values()) == len(BOXES)
    ring = "first" if min([*BOXES, "new"], key=place) == FIRST else "tenth"
    assert found[f"echoplane_edge_devices{sorted(['stable', TASK, ring, 'refused'])}"] == 1
    assert found["echoplane_edge_last_seen_timestamp_seconds['box-3', 'stable']"] == NOW.timestamp()
    assert found["echoplane_edge_last_seen_timestamp_seconds['new', 'stable']"] == 0
    assert found["echoplane_edge_free_bytes['box-3', 'stable']"] == 5000 * 2**20
    assert found[f"echoplane_edge_refused_ratio{sorted(['stable', TASK])}"] == pytest.approx(1 / 9)
    assert found[f"echoplane_edge_rollout_halted{sorted(['stable', TASK])}"] == 0
    halted = metrics(fleet(of=plan(halted="by hand")))
    assert halted[f"echoplane_edge_rollout_halted{sorted(['stable', TASK])}"] == 1


def test_answers_are_counted_by_bundle_and_shown_by_device() -> None:
    latency = (0,) * 40 + (300,) + (0,) * 40
    counts = ServiceCounts(
        bundle=NEW, attempt=1, since=NOW, answers=300, abstained=12, latency=latency, told=9, wrong=2
    )
    box = report("box-1", bundle=NEW)
    box = box.model_copy(update={"tasks": {TASK: box.tasks[TASK].model_copy(update={"service": (counts,)})}})
    found = fleet(box)
    values = metrics(found)
    assert values[f"echoplane_edge_answers{sorted(['stable', TASK, 'offered'])}"] == 300
    assert values[f"echoplane_edge_abstained{sorted(['stable', TASK, 'offered'])}"] == 12
    assert values[f"echoplane_edge_answers{sorted(['stable', TASK, 'stable'])}"] == 0
    assert '<td class="number">300</td><td class="number">4.0 %</td>' in fleet_page(found)
    assert '<td class="number">2 of 9</td><td class="number">1024</td>' in fleet_page(found)


def test_labels_are_bounded_whatever_devices_say() -> None:
    hostile = report("box-1", channel=HOSTILE, version=HOSTILE, reason=HOSTILE)
    many = hostile.model_copy(update={"tasks": {f"task-{n}": hostile.tasks[TASK] for n in range(500)}})
    families = text_string_to_metric_families(fleet_exposition(fleet(many)).decode())
    labels = {value for family in families for one in family.samples for value in one.labels.values()}
    assert labels <= {"stable", OTHER, TASK, "box-1", "first", "tenth", "all"} | {
        "offered",
        "serving",
        "behind",
        "waiting",
        "refused",
        "nothing",
    }


def test_every_metric_that_is_defined_is_written() -> None:
    text = fleet_exposition(fleet(report("box-1"))).decode()
    assert {one.name for one in DEFINITIONS} == set(re.findall(r"^# TYPE (\w+) gauge$", text, re.MULTILINE))


def stored(folder: Path, **contents: str | bytes) -> Received:
    for name, content in contents.items():
        path = folder / f"{name.replace('_', '-')}.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return receive(str(folder))


def test_a_report_counts_only_under_its_devices_name_and_only_if_it_is_one(tmp_path: Path) -> None:
    good = report("box-1").model_dump_json()
    (tmp_path / "box-3").mkdir()
    (tmp_path / "box-3" / "box-1.json").write_text(report("box-1", "refused").model_dump_json())
    big = report("box-4", version="x" * MAX_REPORT_BYTES).model_dump_json()
    found = stored(tmp_path, box_1=good, box_2=good, box_4=big)
    assert [(one.report.device, one.report.tasks[TASK].state) for one in found.seen] == [("box-1", "serving")]
    assert found.unreadable == ["box-2.json", "box-4.json"]
    assert abs(found.seen[0].at - datetime.now(UTC)) < timedelta(minutes=5), "the store's clock, not the device's"


@pytest.mark.parametrize(
    "change",
    [
        {"free_mib": 10**400},
        {"free_mib": -1},
        {"waiting_mib": float("inf")},
        {"waiting_mib": float("nan")},
        {"time": "2026-03-01T12:00:00"},
        {"device": "../box-1"},
        {"schema_version": 2},
        {"more": 1},
    ],
)
def test_a_report_with_a_value_that_cannot_be_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    known = json.loads(report("box-1").model_dump_json())
    assert stored(tmp_path, box_1=json.dumps(known)).unreadable == []
    assert stored(tmp_path, box_1=json.dumps(known | change)).unreadable == ["box-1.json"]


def test_the_earliest_time_of_all_breaks_nothing() -> None:
    assert fleet(report("box-1", time="0001-01-01T00:00:00+14:00")).unwell == 1


def test_the_command_writes_the_page_and_the_metrics_after_the_policy_acted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edge(*arguments: object) -> int:
        return cli.main(["edge", *map(str, arguments), "--json"])

    repo, keys, reports = tmp_path / "repo", tmp_path / "keys", tmp_path / "reports"
    bundle = make_tiny_bundle(tmp_path / "bundle")
    edge("init", repo, "--new-keys", keys)
    assert edge("publish", repo, "--bundle", bundle, "--devices", "box-1,box-2", "--keys", keys) == 0
    offered = json.loads(capsys.readouterr().out.splitlines()[-1])["bundle"]
    lucky = min("box-1", "box-2", key=place)
    refused = report(lucky, "refused", reason="golden output: off by 5")
    tasks = {TASK: refused.tasks[TASK].model_copy(update={"wanted": offered})}
    reports.mkdir()
    stored(reports, **{lucky.replace("-", "_"): refused.model_copy(update={"tasks": tasks}).model_dump_json()})
    page, prom = tmp_path / "fleet.html", tmp_path / "edge.prom"
    view = ("--page", page, "--metrics", prom, "--devices", "box-1,box-2")
    assert edge("status", repo, "--reports", reports, "--keys", keys / "online", "--act", *view) == 0
    assert json.loads(capsys.readouterr().out)["need a look"] == 2
    assert "<strong>Halted:</strong>" in page.read_text()
    assert f'echoplane_edge_rollout_halted{{channel="stable",task="{TASK}"}} 1.0' in prom.read_text()
