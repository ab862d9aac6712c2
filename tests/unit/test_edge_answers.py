"""The policy on what devices answer: abstentions and latency of an offered bundle against the stable one."""

import json
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from echoplane.bundle import read
from echoplane.edge.fleet import LATENCY_MS, Received, Report, Seen, ServiceCounts, TaskReport, read_report
from echoplane.edge.policy import Policy, Share, decide
from echoplane.edge.publish import EVALUATION, abstained_in_evaluation, publish
from echoplane.edge.repository import create
from echoplane.edge.rollout import ALL, Candidate, TaskPlan, place
from echoplane.monitoring.feedback import FeedbackRow
from echoplane.monitoring.prediction_log import Row
from serving.edge.feedback_counts import forget, remember, told
from serving.edge.service_log import added, new_rows, started, with_feedback
from serving.edge.state import State, read_state, write_state
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_evaluation import draw_scores, make_record

TASK = "echo-view-video"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEW, OLD = "a" * 64, "b" * 64
PLAN = TaskPlan(stable=OLD, candidate=Candidate(bundle=NEW, ring="all", cut=ALL, since=NOW))


def counts(
    bundle: str, answers: int, abstained: int = 0, ms: float = 100, slow: int = 0, attempt: int = 1
) -> ServiceCounts:
    """Counts of answers that took `ms`, but for `slow` of them, which took ten times that."""
    latency = [0] * (len(LATENCY_MS) + 1)
    latency[bisect_left(LATENCY_MS, ms)] += answers - slow
    latency[bisect_left(LATENCY_MS, 10 * ms)] += slow
    known = {"bundle": bundle, "attempt": attempt, "since": NOW, "answers": answers, "abstained": abstained}
    return ServiceCounts(**known, latency=tuple(latency))


def received(*devices: tuple[ServiceCounts, ...], unreadable: tuple[str, ...] = ()) -> Received:
    seen = []
    for number, service in enumerate(devices):
        task = TaskReport(state="serving", bundle=NEW, wanted=NEW, attempt=1, service=service)
        known = {"device": f"box-{number}", "channel": "stable", "time": NOW, "version": "1", "free_mib": 9}
        seen.append(Seen(Report(**known, tasks={TASK: task}), NOW))
    return Received(seen, list(unreadable))


def action(
    *devices: tuple[ServiceCounts, ...], plan: TaskPlan = PLAN, share: Share | None = None, **limits: float
) -> str:
    decision = decide(plan, TASK, received(*devices), Policy(**limits), NOW, share)
    assert decision is not None
    return decision.action


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (counts(NEW, 400, 120), counts(OLD, 400, 20), "halt"),
        (counts(NEW, 400, 20), counts(OLD, 400, 20), "done"),
        (counts(NEW, 400, 20), counts(OLD, 400, 120), "done"),
        (counts(NEW, 199, 199), counts(OLD, 400, 0), "done"),
        (counts(NEW, 400, 400), counts(OLD, 199, 0), "done"),
        (counts(NEW, 400, 60), counts(OLD, 400, 20), "done"),
        (counts(NEW, 400, 400, attempt=2), counts(OLD, 400, 0), "done"),
    ],
    ids=["worse", "the same", "better", "few new", "few old", "not certain", "another attempt"],
)
def test_more_abstentions_halt_if_they_are_certain(new: ServiceCounts, old: ServiceCounts, expected: str) -> None:
    assert action((new, old)) == expected


def test_the_reason_names_both_shares_and_what_was_compared() -> None:
    decision = decide(PLAN, TASK, received((counts(NEW, 400, 120), counts(OLD, 1000, 50))), Policy(), NOW)
    assert decision.reason == (
        'It answered "cannot tell" in 120 of 400 answers (30.0%); '
        "the stable bundle on the same devices: 50 of 1,000 answers (5.0%)."
    )


def test_the_margin_and_the_number_of_answers_are_settings() -> None:
    pair = (counts(NEW, 400, 120), counts(OLD, 400, 20))
    assert action(pair, max_more_abstained=0.3) == "done"
    assert action(pair, min_answers=500) == "done"
    assert action((counts(NEW, 100, 60), counts(OLD, 100, 5)), min_answers=100) == "halt"


def test_a_device_is_compared_with_itself_before_others() -> None:
    hard_site = (counts(NEW, 400, 200), counts(OLD, 400, 200))
    easy_site = (counts(OLD, 4000, 40),)
    assert action(hard_site, easy_site) == "done"


def test_without_answers_of_its_own_the_stable_bundle_elsewhere_or_the_test_set_is_compared() -> None:
    worse = (counts(NEW, 400, 120),)
    assert action(worse, (counts(OLD, 400, 20),)) == "halt"
    assert action(worse) == "done"
    assert action(worse, share=Share(20, 400)) == "halt"
    assert action(worse, share=Share(5, 100)) == "done", "a small test set says nothing"
    first = TaskPlan(candidate=PLAN.candidate)
    assert action(worse, plan=first, share=Share(20, 400)) == "halt"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (counts(NEW, 400, ms=200), "halt"),
        (counts(NEW, 400, slow=60), "halt"),
        (counts(NEW, 400, slow=30), "done"),
        (counts(NEW, 400, ms=140), "done"),
        (counts(NEW, 199, ms=5000), "done"),
        (counts(NEW, 400, ms=1e9), "halt"),
    ],
    ids=["twice as slow", "15 % are slow", "7 % are slow", "40 % slower", "few answers", "beyond the last bound"],
)
def test_slower_answers_halt_if_they_are_certain(new: ServiceCounts, expected: str) -> None:
    assert action((new, counts(OLD, 400, ms=100))) == expected


def said(bundle: str, told: int, wrong: int) -> ServiceCounts:
    return counts(bundle, 400).model_copy(update={"told": told, "wrong": wrong})


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (said(NEW, 60, 40), said(OLD, 60, 6), "halt"),
        (said(NEW, 60, 6), said(OLD, 60, 6), "done"),
        (said(NEW, 29, 29), said(OLD, 60, 6), "done"),
        (said(NEW, 60, 60), said(OLD, 29, 0), "done"),
        (said(NEW, 60, 15), said(OLD, 60, 6), "done"),
    ],
    ids=["worse", "the same", "few new", "few old", "not certain"],
)
def test_labels_that_people_find_wrong_halt_if_they_are_certain(
    new: ServiceCounts, old: ServiceCounts, expected: str
) -> None:
    assert action((new, old)) == expected
    assert action((new,), (old,)) == expected, "on other devices"


def test_feedback_is_joined_to_answers_that_were_sent_and_of_each_request_the_last_counts(tmp_path: Path) -> None:
    path, folder = tmp_path / "answers.sqlite", tmp_path / "log"
    folder.mkdir()
    ids = [f"{number:016x}" for number in range(5)]
    remember(path, [row(NEW, NOW, request_id=one) for one in ids[:3]] + [row(NEW, NOW, None, request_id=ids[3])])
    remember(path, [row(OLD, NOW, request_id=ids[4])])
    minute = timedelta(minutes=1)
    first = [feedback(ids[0], "A4C", NOW), feedback(ids[1], "PLAX", NOW), feedback(ids[2], "PLAX", NOW)]
    (folder / "feedback-1-7.feedback.ndjson").write_text("\n".join(first) + "\n" + first[0][:30])
    later = [feedback(ids[2], "A4C", NOW + minute), feedback(ids[3], "A4C", NOW), feedback(ids[4], "PLAX", NOW)]
    (folder / "feedback-2-8.feedback.ndjson").write_text("\n".join(later) + "\n")
    found = with_feedback({NEW: counts(NEW, 4), OLD: counts(OLD, 1)}, told(path, folder))
    assert {name: (one.told, one.wrong) for name, one in found.items()} == {NEW: (3, 1), OLD: (1, 1)}
    forget(path, NEW, {NEW, OLD})
    again = with_feedback({NEW: counts(NEW, 0), OLD: counts(OLD, 1)}, told(path, folder))
    assert {name: one.told for name, one in again.items()} == {NEW: 0, OLD: 1}, "a new attempt is judged anew"
    forget(path, NEW, {NEW})
    assert told(path, folder) == {}


def feedback(request: str, label: str, at: datetime) -> str:
    known = {"time": at, "request_id": request, "task": TASK, "label": label, "author": "x", "site": "none"}
    return FeedbackRow.model_validate(known).model_dump_json()


def test_a_slow_device_is_no_reason_if_it_was_slow_before() -> None:
    jetson = (counts(NEW, 400, ms=2000), counts(OLD, 400, ms=2000))
    server = (counts(NEW, 400, ms=20), counts(OLD, 400, ms=20))
    assert action(jetson, server) == "done"
    assert action((counts(NEW, 400, ms=2000),), (counts(OLD, 400, ms=20),)) == "done", "never compared across devices"


def test_chance_alone_halts_in_at_most_one_of_a_thousand_looks() -> None:
    """The exact interval of the share that is slow: 5 % are slow by definition."""
    low = [slow for slow in range(401) if Share(slow, 400).low > 0.05]
    assert low[0] == 37, "18 of 400 are expected"


def test_a_damaged_report_keeps_a_ring_from_being_widened() -> None:
    ring = Candidate(bundle=NEW, ring="first", cut=place("box-0"), since=NOW - timedelta(days=3))
    plan = TaskPlan(stable=OLD, candidate=ring)
    assert decide(plan, TASK, received(()), Policy(), NOW).action == "widen"
    inside = next(f"x{number}" for number in range(99) if place(f"x{number}") < place("box-0"))
    outside = next(f"x{number}" for number in range(99) if place(f"x{number}") > place("box-0"))
    assert decide(plan, TASK, received((), unreadable=(f"{inside}.json",)), Policy(), NOW).action == "wait"
    assert decide(plan, TASK, received((), unreadable=(f"{outside}.json",)), Policy(), NOW).action == "widen"


@pytest.mark.parametrize(
    "change",
    [
        {"answers": -1},
        {"answers": 5},
        {"abstained": 401},
        {"latency": [400]},
        {"latency": [400.5] + [0] * len(LATENCY_MS)},
        {"latency": [401, -1] + [0] * (len(LATENCY_MS) - 1)},
        {"since": "yesterday"},
        {"bundle": "../x"},
        {"wrong": 1},
        {"patient": "DOE"},
    ],
    ids=str,
)
def test_counts_that_cannot_be_make_a_report_unreadable(change: dict[str, object]) -> None:
    (seen,) = received((counts(NEW, 400, 20),)).seen
    known = json.loads(seen.report.model_dump_json())
    assert read_report(json.dumps(known).encode()) == seen.report
    known["tasks"][TASK]["service"][0] |= change
    assert read_report(json.dumps(known).encode()) is None


def test_percentiles_are_the_upper_bound_of_their_bucket() -> None:
    found = counts(NEW, 100, ms=100, slow=10)
    assert 100 <= found.quantile_ms(0.5) < 100 * 2**0.25
    assert 1000 <= found.quantile_ms(0.95) < 1000 * 2**0.25
    assert counts(NEW, 10, ms=1e9).quantile_ms(0.5) == float("inf")
    assert str(counts(NEW, 0).quantile_ms(0.5)) == "nan"
    assert (found.slower_than(100), found.slower_than(1000), found.slower_than(99)) == (10, 0, 10)


def row(bundle: str, at: datetime, label: str | None = "A4C", total_ms: float = 120, **changed: object) -> Row:
    known = {"time": at, "request_id": "0" * 16, "task": TASK, "model_version": "", "bundle": bundle, "site": "none"}
    more = {"label": label, "confidence": 0.9, "features": {}, "embedding": "", "warnings": 0}
    return Row.model_validate(known | more | {"timings_ms": {"total": total_ms, "upload": 20}} | changed)


def test_answers_are_counted_by_bundle_since_it_was_taken_without_the_upload() -> None:
    known = started({}, OLD, 0, {OLD}, NOW)
    known = started(known, NEW, 1, {OLD, NEW}, NOW + timedelta(hours=1))
    late = NOW + timedelta(hours=2)
    rows = [row(OLD, NOW), row(OLD, late, None), row(NEW, NOW), row(NEW, late, total_ms=520), row("c" * 64, late)]
    found = added(known, rows)
    assert {name: (one.answers, one.abstained) for name, one in found.items()} == {OLD: (2, 1), NEW: (1, 0)}
    assert 500 <= found[NEW].quantile_ms(0.5) < 500 * 2**0.25
    assert 100 <= found[OLD].quantile_ms(0.5) < 100 * 2**0.25


def test_a_later_attempt_counts_anew_and_a_return_to_the_stable_bundle_goes_on() -> None:
    known = added(started({}, NEW, 1, {NEW}, NOW), [row(NEW, NOW)])
    assert started(known, NEW, 0, {NEW}, NOW)[NEW].answers == 1, "it became the stable bundle"
    again = started(known, NEW, 2, {NEW}, NOW + timedelta(hours=1))[NEW]
    assert (again.answers, again.attempt) == (0, 2)
    assert set(started(known, OLD, 0, {OLD, None}, NOW)) == {OLD}


def test_each_row_is_counted_once_over_restarts_and_a_line_that_is_none_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    path = folder / "predictions-1-7.jsonl"
    line = row(NEW, NOW).model_dump_json() + "\n"
    path.write_text(line + "no row\n" + line + line[:20])
    state = State(service={TASK: started({}, NEW, 1, {NEW}, NOW)})

    def count(before: State) -> State:
        for rows, counted in new_rows(folder, before.counted):
            service = {TASK: added(before.service[TASK], rows)}
            before = before.model_copy(update={"service": service, "counted": counted})
        return before

    state = count(state)
    assert state.service[TASK][NEW].answers == 2
    write_state(tmp_path, state)
    with path.open("a") as file:
        file.write(line[20:])
    state = count(read_state(tmp_path))
    assert state.service[TASK][NEW].answers == 3
    assert list(new_rows(folder, state.counted)) == []


def test_a_bundles_own_evaluation_says_how_often_it_abstains(tmp_path: Path) -> None:
    repository = create(tmp_path / "repository", tmp_path / "keys")

    def offered(seed: int, evaluation: dict[str, Any] | None) -> Share | None:
        folder = make_tiny_bundle(tmp_path / str(seed), seed)
        if evaluation is not None:
            (folder / EVALUATION).write_text(json.dumps(evaluation | {"bundle_id": read(folder).id} | evaluation))
        bundle = publish(repository, "stable", folder, "all", []).bundle
        return abstained_in_evaluation(repository, bundle)

    record = make_record(draw_scores(accuracy=0.97))
    known = {name: value for name, value in record.items() if name != "bundle_id"}
    share = offered(1, known)
    assert share == Share(round(record["figures"]["abstained"]["value"] * record["clips"]), record["clips"])
    assert offered(2, None) is None
    assert offered(3, {"figures": {}}) is None
    assert offered(4, record) is None, "it is of another bundle"
