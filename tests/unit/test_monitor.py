"""The monitor reads the log once, keeps its evidence over restarts, and publishes bounded series."""

import gzip
import sqlite3
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from echoplane.bundle import read
from echoplane.errors import ConfigError
from echoplane.monitoring import agreement, log_reader, model_monitor, monitor_state
from echoplane.monitoring.drift import Alarm, TaskMonitor
from echoplane.monitoring.feedback import FeedbackRow
from echoplane.monitoring.groups import MAX_GROUPS
from echoplane.monitoring.log_reader import read_step
from echoplane.monitoring.model_monitor import Monitors
from echoplane.monitoring.monitor_metrics import DEFINITIONS, Gauges
from echoplane.monitoring.monitor_state import dumped, restore
from echoplane.stages import drift, drift_reference
from echoplane.stages.drift import alarm_sentence
from serving.listening import listen
from serving.monitor.references import reference_of_bundle
from serving.monitor.settings import MonitorSettings
from serving.monitor.watcher import model_values
from tests.monitor_log import BUNDLE, START, TASK, append, make_reference, make_rows
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def reference():
    return make_reference()


def monitors(tmp_path: Path, reference) -> Monitors:
    return Monitors(tmp_path / "state", str(tmp_path / "log"), lambda _: reference)


def evidence_of(model) -> dict:
    return {group: streams.evidence for group, streams in model.monitor.groups.items()}


def test_no_drift_raises_no_alarm_and_a_shift_is_found_and_named(tmp_path, reference):
    append(tmp_path / "log", make_rows(600))
    watched = monitors(tmp_path, reference)
    watched.step()
    (model,) = watched.current()
    assert (model.studies, model.monitor.alarm) == (600, None)
    append(tmp_path / "log", make_rows(200, first=600, shift=1.5))
    watched.step()
    assert model.studies == 800
    assert model.monitor.alarm.stream == "brightness"
    assert model.monitor.alarm.studies <= 200


def test_a_request_that_a_client_sent_again_counts_once(tmp_path, reference):
    rows = make_rows(20)
    append(tmp_path / "log", [*rows, *rows[5:10]])
    watched = monitors(tmp_path, reference)
    watched.step()
    append(tmp_path / "log", rows[3:4])
    watched.step()
    (model,) = watched.current()
    assert model.studies == 20


def test_a_restart_in_the_middle_gives_exactly_the_evidence_of_no_restart(tmp_path, reference):
    rows = make_rows(300, shift=0.3)
    append(tmp_path / "log", rows[:150])
    first = monitors(tmp_path, reference)
    first.step()
    first.close()
    append(tmp_path / "log", rows[150:])
    again = monitors(tmp_path, reference)
    again.step()
    append(tmp_path / "whole" / "log", rows)
    whole = monitors(tmp_path / "whole", reference)
    whole.step()
    one, other = again.models[BUNDLE], whole.models[BUNDLE]
    assert one.studies == other.studies == 300
    assert evidence_of(one) == {group: pytest.approx(found, rel=1e-9) for group, found in evidence_of(other).items()}
    assert list(one.recent) == list(other.recent)


def test_a_process_that_dies_before_it_stored_a_step_reads_its_rows_again(tmp_path, reference, monkeypatch):
    append(tmp_path / "log", make_rows(50))
    killed = monitors(tmp_path, reference)
    monkeypatch.setattr(killed, "_store", lambda *_: None)
    killed.step()
    killed.close()
    again = monitors(tmp_path, reference)
    again.step()
    assert again.models[BUNDLE].studies == 50


def test_a_long_log_is_stored_at_times_and_a_process_that_dies_between_loses_nothing(tmp_path, reference, monkeypatch):
    rows = make_rows(500)
    append(tmp_path / "log", rows)
    append(tmp_path / "whole" / "log", rows)
    monkeypatch.setattr(log_reader, "MAX_STEP_BYTES", 1 << 16)
    killed = monitors(tmp_path, reference)
    assert killed.step().more
    assert 0 < killed.models[BUNDLE].studies < 500
    assert killed.positions == {}  # what is stored: only rows before it may be compacted
    killed.close()
    again = monitors(tmp_path, reference)
    assert again.models == {}
    monkeypatch.setattr(model_monitor, "STORE_S", 0)
    assert again.step().more
    assert again.positions
    again.close()
    last, whole = monitors(tmp_path, reference), monitors(tmp_path / "whole", reference)
    for watched in (last, whole):
        while watched.step().more:
            pass
    one, other = last.models[BUNDLE], whole.models[BUNDLE]
    assert one.studies == other.studies == 500
    assert evidence_of(one) == {group: pytest.approx(found, rel=1e-9) for group, found in evidence_of(other).items()}


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(tmp_path):
    (line,) = (row.model_dump_json().encode() for row in make_rows(1))
    path = tmp_path / "predictions-1.jsonl"
    path.write_bytes(line[:50])
    step = read_step(str(tmp_path), {})
    assert (step.rows, step.bad_lines) == ([], 0)
    path.write_bytes(line + b"\nno row\n")
    step = read_step(str(tmp_path), step.positions)
    assert ([row.request_id for row in step.rows], step.bad_lines) == (["r0"], 1)
    assert read_step(str(tmp_path), step.positions).rows == []


def test_a_log_of_more_than_one_step_is_read_without_a_pause(tmp_path, monkeypatch):
    monkeypatch.setattr(log_reader, "MAX_STEP_BYTES", 100_000)
    append(tmp_path, make_rows(400))
    positions, rows, more = {}, [], True
    while more:
        step = read_step(str(tmp_path), positions)
        positions, more = step.positions, step.more
        rows += step.rows
    assert [row.request_id for row in rows] == [f"r{number}" for number in range(400)]


def test_compressed_files_are_read_once_and_removed_files_are_forgotten(tmp_path):
    lines = "".join(f"{row.model_dump_json()}\n" for row in make_rows(20))
    path = tmp_path / "date=2026-11-01" / "a.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(lines.encode()))
    step = read_step(str(tmp_path), {})
    assert len(step.rows) == 20
    assert read_step(str(tmp_path), step.positions).rows == []
    path.unlink()
    assert read_step(str(tmp_path), step.positions).positions == {}
    path.write_bytes(b"no gzip")
    assert read_step(str(tmp_path), {}).bad_lines == 1


def test_one_site_that_changes_is_the_group_of_the_alarm(tmp_path, reference):
    for number in range(40):
        append(tmp_path / "log", make_rows(18, first=20 * number))
        append(tmp_path / "log", make_rows(2, first=20 * number + 18, shift=4.0, site="harbour"))
    watched = monitors(tmp_path, reference)
    watched.step()
    alarm = watched.models[BUNDLE].monitor.alarm
    assert alarm.groups == ("site harbour",)
    gauges = Gauges()
    gauges.publish(model_values(watched.current()))
    assert 'group="site harbour",stream="brightness"' in gauges.exposition().decode()


def test_a_scanner_that_changes_at_every_site_is_named_by_manufacturer_and_model(tmp_path, reference):
    vivid, epiq = ("GE", "VIVID E95"), ("PHILIPS", "EPIQ 7C")
    for number in range(40):
        for site, first in (("lakeside", 20 * number), ("harbour", 20 * number + 10)):
            append(tmp_path / "log", make_rows(7, first=first, site=site, device=epiq))
            append(tmp_path / "log", make_rows(3, first=first + 7, shift=3.0, site=site, device=vivid))
    watched = monitors(tmp_path, reference)
    watched.step()
    alarm = watched.models[BUNDLE].monitor.alarm
    assert set(alarm.groups) == {"manufacturer GE", "model GE VIVID E95"}
    assert "manufacturer GE" in alarm_sentence(alarm)


def test_a_state_of_a_version_that_knew_one_group_per_alarm_is_read(reference, monkeypatch):
    monitor = TaskMonitor(reference.streams, reference.labels)
    monitor.alarm = Alarm("brightness", 40, 1e5)
    old = {"stream": "brightness", "studies": 40, "evidence": 1e5, "label": None, "group": "site harbour"}
    monkeypatch.setattr(monitor_state, "asdict", lambda _: old)
    content = dumped(monitor)
    restore(monitor, content)
    assert monitor.alarm == Alarm("brightness", 40, 1e5, groups=("site harbour",))


def test_groups_do_not_multiply_the_evidence(reference):
    """Each study counts once per group, and the mean over groups grows by at most the number of studies."""
    monitor = TaskMonitor({"x": [0.0]}, {})
    after = [monitor.add_all(np.array([[1.0]]), ["A4C"], [(group,)])[-1] for group in ("site a", "site b")]
    assert after[-1] == monitor.evidence
    assert monitor.evidence == pytest.approx(
        sum(evidence for streams in monitor.groups.values() for evidence in streams.evidence.values()) / 3
    )


def test_sites_beyond_the_limit_share_a_group(tmp_path, reference):
    for number in range(MAX_GROUPS["site"] + 10):
        append(tmp_path / "log", make_rows(1, first=number, site=f"s{number}"))
    watched = monitors(tmp_path, reference)
    watched.step()
    groups = watched.models[BUNDLE].monitor.groups
    assert sum(group.startswith("site ") for group in groups) == MAX_GROUPS["site"] + 1


def test_a_model_without_reference_is_counted_and_published_as_not_watched(tmp_path):
    def none(_):
        raise ValueError("no evaluation")

    append(tmp_path / "log", make_rows(5))
    watched = Monitors(tmp_path / "state", str(tmp_path / "log"), none)
    watched.step()
    gauges = Gauges()
    gauges.publish(model_values(watched.current()))
    text = gauges.exposition().decode()
    assert f'echoplane_drift_watched{{task="{TASK}",version="3"}} 0.0' in text
    assert "echoplane_drift_alarm{" not in text


def test_only_the_model_that_answers_now_is_published(tmp_path, reference):
    append(tmp_path / "log", make_rows(5))
    append(tmp_path / "log", make_rows(5, first=5, bundle="c" * 64))
    watched = monitors(tmp_path, reference)
    watched.step()
    assert [model.bundle for model in watched.current()] == ["c" * 64]
    assert watched.current()[0].first >= START


def test_a_damaged_state_starts_the_evidence_again_and_is_no_crash(reference):
    monitor = TaskMonitor(reference.streams, reference.labels)
    with pytest.raises(ValueError, match="damaged"):
        restore(monitor, b"PK\x03\x04 nonsense")
    assert dumped(monitor)[:2] == b"PK"


def test_every_metric_has_a_sentence_and_bounded_labels():
    for one in DEFINITIONS:
        assert one.help.endswith(".")
        assert set(one.labels) <= {"task", "version", "group", "stream", "bound"}


def test_a_monitor_open_to_other_machines_demands_a_token(tmp_path):
    open_to_all = MonitorSettings(monitor_host="0.0.0.0")
    with pytest.raises(ConfigError, match="WEBHOOK_TOKEN_FILE"):
        open_to_all.webhook_token()
    (tmp_path / "token").write_text("short")
    with pytest.raises(ConfigError, match="16 characters"):
        MonitorSettings(webhook_token_file=str(tmp_path / "token")).webhook_token()
    assert MonitorSettings().webhook_token() == ""


def test_answers_that_feedback_can_be_joined_to_are_bounded():
    database = sqlite3.connect(":memory:")
    database.executescript(agreement.SCHEMA)
    for first in range(0, 100, 20):
        agreement.add_answers(database, make_rows(20, first=first), 30)
    kept = [request for (request,) in database.execute("SELECT request FROM answers ORDER BY rowid")]
    assert kept == [f"r{number}" for number in range(70, 100)]


def test_feedback_is_joined_to_its_answers_and_the_last_word_counts(tmp_path, reference):
    rows = [row.model_copy(update={"request_id": f"{number:016x}"}) for number, row in enumerate(make_rows(20))]
    append(tmp_path / "log", rows)
    watched = monitors(tmp_path, reference)
    watched.step()
    assert watched.current()[0].agreement is None
    labels = [(row, row.label) for row in rows[:9]] + [(rows[9], "wrong"), (rows[0], "wrong"), (rows[0], rows[0].label)]
    lines = [
        FeedbackRow(
            time=START + timedelta(minutes=minute),
            request_id=row.request_id,
            task=TASK,
            label=label,
            author="a",
            site="s",
        ).model_dump_json()
        for minute, (row, label) in enumerate(labels)
    ]
    (tmp_path / "log" / "a.feedback.ndjson").write_text("\n".join(lines) + "\n")
    watched.step()
    found = watched.current()[0].agreement
    assert (found.studies, found.agreeing) == (10, 9)
    exact = binomtest(9, 10).proportion_ci(method="exact")
    assert found.interval == pytest.approx((exact.low, exact.high))
    gauges = Gauges()
    gauges.publish(model_values(watched.current()))
    assert f'echoplane_feedback_agreement_ratio{{task="{TASK}",version="3"}} 0.9' in gauges.exposition().decode()


def test_a_port_that_is_taken_is_a_wrong_setting():
    with listen("monitor", "127.0.0.1", 0, "ECHOPLANE_MONITOR_") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"the monitor can't listen at 127.0.0.1:{port} .*ECHOPLANE_MONITOR_PORT"):
            listen("monitor", "127.0.0.1", port, "ECHOPLANE_MONITOR_")


def test_why_there_is_no_reference_is_told(tmp_path):
    missing = tmp_path / "evaluate"
    for evaluations, why in (("", "is not set"), (str(missing), f"the folder {missing} does not exist")):
        with pytest.raises(ValueError, match=why):
            reference_of_bundle(evaluations, BUNDLE)
    missing.mkdir()
    with pytest.raises(ValueError, match="neither an evaluation of this bundle nor a reference"):
        reference_of_bundle(str(missing), BUNDLE)


DAY_S = 86_400


def accepting(tmp_path: Path, **changed) -> drift_reference.Config:
    known = {"bundle": str(tmp_path / "bundle"), "predictions": str(tmp_path / "log"), "by": "alex"}
    known |= {"since": "2026-11-01", "until": "2026-11-01", "out": str(tmp_path / "evaluate" / "november")}
    return drift_reference.Config(**(known | changed))


def test_accepted_days_are_the_reference_of_a_bundle_without_evaluation(tmp_path):
    bundle = read(make_tiny_bundle(tmp_path / "bundle")).id
    days = [make_rows(300, first=first, shift=3, bundle=bundle) for first in (0, DAY_S)]
    append(tmp_path / "log", [*days[0], *days[0][5:10], *make_rows(50, first=500), *days[1]])
    accepted = drift_reference.run(accepting(tmp_path))
    assert (accepted.bundle_id, accepted.studies, accepted.by) == (bundle, 300, "alex")
    kept = pq.read_table(tmp_path / "evaluate" / "november" / drift_reference.STUDIES)
    assert kept.column_names == ["label", "confidence", "feature_brightness", "feature_contrast", "embedding"]
    found = reference_of_bundle(str(tmp_path / "evaluate"), bundle)
    assert len(found.streams["brightness"]) == sum(found.labels.values()) == 300

    watched = Monitors(tmp_path / "state", str(tmp_path / "log"), lambda asked: found)
    watched.step()
    assert watched.models[bundle].monitor.alarm is None, "more of the same"
    append(tmp_path / "log", make_rows(200, first=3 * DAY_S, shift=4.5, bundle=bundle))
    watched.step()
    assert watched.models[bundle].monitor.alarm.stream == "brightness"


def test_a_reference_of_accepted_days_also_answers_the_command_drift(tmp_path):
    bundle = read(make_tiny_bundle(tmp_path / "bundle")).id
    append(tmp_path / "log", make_rows(300, bundle=bundle))
    drift_reference.run(accepting(tmp_path))
    known = {"predictions": str(tmp_path / "log"), "reference": str(tmp_path / "evaluate" / "november")}
    found = drift.run(drift.Config(**known))
    assert (found["bundle_id"], found["studies"], found["alarm"]) == (bundle, 300, None)
    for wrong in ({"evaluation": "manifest.json"}, {"reference": ""}):
        with pytest.raises(ConfigError, match="give `evaluation` or `reference`"):
            drift.run(drift.Config(**(known | wrong)))


def test_what_can_be_no_reference_is_refused_and_leaves_nothing(tmp_path):
    bundle = read(make_tiny_bundle(tmp_path / "bundle")).id
    append(tmp_path / "log", make_rows(199, bundle=bundle))
    with pytest.raises(ConfigError, match=r"holds 199 studies of these days .* Give more days"):
        drift_reference.run(accepting(tmp_path))
    older = make_rows(2, first=199, bundle=bundle)
    append(tmp_path / "log", [row.model_copy(update={"features": {"brightness": 0.3}}) for row in older])
    with pytest.raises(ConfigError, match="services of two versions"):
        drift_reference.run(accepting(tmp_path))
    assert not (tmp_path / "evaluate").exists()
    (tmp_path / "evaluate" / "november").mkdir(parents=True)
    (tmp_path / "evaluate" / "november" / "notes.txt").touch()
    with pytest.raises(ConfigError, match="not empty"):
        drift_reference.run(accepting(tmp_path))
