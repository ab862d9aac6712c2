"""The retraining loop: it starts only what is approved, and never runs away."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from echoplane.cli import main
from echoplane.errors import ConfigError
from echoplane.monitoring.model_monitor import Monitors
from echoplane.monitoring.retraining import AuditFile, LoopPolicy, loop_of, now
from echoplane.parent import stop
from echoplane.tokens import Role, change_tokens, new_token
from serving.monitor.app import build
from serving.monitor.trigger import Notification, Trigger
from serving.monitor.watcher import Watcher
from tests.monitor_log import TASK, append, make_reference, make_rows, notification

QUICK = LoopPolicy(debounce_s=0, cool_down_s=0, runs_per_week=2)
RETRAIN = f"{sys.executable} -c \"print('retrained {{task}}')\""
"""A double of the retraining command."""
FOR_EVER = f'{sys.executable} -c "import time; time.sleep(600)"'
MINUTES_AGO = timedelta(minutes=30)


def make(folder: Path, policy: LoopPolicy = QUICK, command: str = RETRAIN, timeout_s: float = 60) -> Trigger:
    return Trigger(folder, policy, command, timeout_s, [TASK])


def alert(trigger: Trigger, status: str = "firing", task: str = TASK, ago: timedelta = MINUTES_AGO) -> int:
    return trigger.notify(Notification.model_validate(notification(status, task, now() - ago)))


def kinds(folder: Path) -> list[str]:
    return [event.kind for event in AuditFile(folder).events()]


def approve(folder: Path) -> None:
    waiting = loop_of(AuditFile(folder).events(), LoopPolicy(), now()).with_status("waiting")
    assert main(["retrain", "approve", waiting[0].id, "--by", "alex", "--state", str(folder)]) == 0


def step_until_ended(trigger: Trigger, folder: Path, ended: int = 1) -> None:
    deadline = time.monotonic() + 30
    while kinds(folder).count("finished") < ended and time.monotonic() < deadline:
        trigger.step()
        time.sleep(0.02)
    assert kinds(folder).count("finished") == ended


def test_an_alert_asks_a_person_approves_and_the_command_runs_once(tmp_path):
    trigger = make(tmp_path)
    assert alert(trigger) == 1
    for _ in range(3):
        trigger.step()
    assert kinds(tmp_path) == ["requested"]
    alert(trigger, "resolved")
    approve(tmp_path)
    step_until_ended(trigger, tmp_path)
    assert kinds(tmp_path) == ["requested", "approved", "started", "finished"]
    (request,) = loop_of(AuditFile(tmp_path).events(), QUICK, now()).requests.values()
    assert (request.decided_by, request.outcome) == ("alex", "exit status 0")
    assert (tmp_path / f"retrain-{request.id}.log").read_text() == f"retrained {TASK}\n"


def test_a_short_alert_a_resolved_one_and_those_of_others_ask_for_nothing(tmp_path):
    trigger = make(tmp_path, LoopPolicy(debounce_s=600))
    alert(trigger, ago=timedelta(minutes=1))
    trigger.step()
    alert(trigger, ago=timedelta(hours=1))
    alert(trigger, "resolved")
    assert alert(trigger, task="; rm -rf /") == 0
    body = notification("firing", TASK, now() - MINUTES_AGO, name="EchoplaneBusy")
    assert trigger.notify(Notification.model_validate(body)) == 0
    trigger.step()
    assert kinds(tmp_path) == []


def test_an_endless_alert_with_automatic_approval_stops_at_the_weeks_budget(tmp_path):
    trigger = make(tmp_path, QUICK.model_copy(update={"approval": "automatic"}))
    alert(trigger)
    step_until_ended(trigger, tmp_path, ended=2)
    for _ in range(10):
        trigger.step()
        time.sleep(0.01)
    assert kinds(tmp_path).count("started") == 2
    assert kinds(tmp_path).count("requested") == 2


def test_the_cool_down_follows_a_run_and_a_rejection(tmp_path):
    trigger = make(tmp_path, QUICK.model_copy(update={"cool_down_s": 3600}))
    alert(trigger)
    trigger.step()
    (request,) = loop_of(AuditFile(tmp_path).events(), QUICK, now()).requests.values()
    assert main(["retrain", "reject", request.id, "--by", "alex", "--state", str(tmp_path)]) == 0
    for _ in range(3):
        trigger.step()
    assert kinds(tmp_path) == ["requested", "rejected"]


def test_the_stop_switch_ends_the_run_and_keeps_others_from_starting(tmp_path, capsys):
    trigger = make(tmp_path, command=FOR_EVER)
    alert(trigger)
    trigger.step()
    approve(tmp_path)
    trigger.step()
    process = trigger._run.process
    assert process.poll() is None
    assert main(["retrain", "stop", "--by", "sam", "--reason", "wrong labels", "--state", str(tmp_path)]) == 0
    trigger.step()
    assert process.poll() is not None
    for _ in range(3):
        trigger.step()
    assert kinds(tmp_path) == ["requested", "approved", "started", "stopped", "finished"]
    capsys.readouterr()
    assert main(["retrain", "list", "--state", str(tmp_path)]) == 0
    assert "stopped by sam" in capsys.readouterr().out
    assert main(["retrain", "resume", "--by", "sam", "--state", str(tmp_path)]) == 0
    trigger.step()
    assert kinds(tmp_path)[-1] == "requested"


def test_a_run_that_takes_too_long_is_ended(tmp_path):
    trigger = make(tmp_path, command=FOR_EVER, timeout_s=0.05)
    alert(trigger)
    trigger.step()
    alert(trigger, "resolved")
    approve(tmp_path)
    step_until_ended(trigger, tmp_path)
    assert "time limit" in AuditFile(tmp_path).events()[-1].reason


def test_a_run_of_a_killed_monitor_counts_and_is_not_repeated(tmp_path):
    first = make(tmp_path, command=FOR_EVER)
    alert(first)
    first.step()
    approve(tmp_path)
    first.step()
    again = make(tmp_path, command=FOR_EVER)
    again.step()
    assert kinds(tmp_path) == ["requested", "approved", "started", "finished"]
    assert loop_of(AuditFile(tmp_path).events(), QUICK, now()).runs_left(QUICK, now()) == 1
    stop(first._run.process)


def test_a_command_that_is_not_there_is_noted_as_failed(tmp_path):
    trigger = make(tmp_path, command="/nowhere/retrain")
    alert(trigger)
    trigger.step()
    alert(trigger, "resolved")
    approve(tmp_path)
    step_until_ended(trigger, tmp_path)
    assert "can't be started" in AuditFile(tmp_path).events()[-1].reason


def test_a_request_that_nobody_decides_expires(tmp_path):
    trigger = make(tmp_path)
    alert(trigger)
    trigger.step()
    events = AuditFile(tmp_path).events()
    (request,) = loop_of(events, QUICK, now() + timedelta(days=8)).requests.values()
    assert request.status == "expired"


def test_a_cut_last_line_is_dropped_and_a_strange_line_stops_all_decisions(tmp_path):
    trigger = make(tmp_path)
    alert(trigger)
    trigger.step()
    with trigger.audit.path.open("ab") as file:
        file.write(b'{"time": "2026')
    assert kinds(tmp_path) == ["requested"]
    approve(tmp_path)
    assert kinds(tmp_path) == ["requested", "approved"]
    with trigger.audit.path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(ConfigError, match="restore the file"):
        trigger.step()


def test_a_decision_needs_a_name_and_a_request_that_waits(tmp_path, capsys):
    assert main(["retrain", "approve", "abcd", "--state", str(tmp_path)]) == 2
    assert "--by NAME" in capsys.readouterr().err
    assert main(["retrain", "approve", "abcd", "--by", "alex", "--state", str(tmp_path)]) == 2
    assert "no request abcd" in capsys.readouterr().err
    assert main(["retrain", "list", "--state", str(tmp_path / "nowhere")]) == 2


def test_the_webhook_demands_its_token_and_a_body_that_it_knows(tmp_path):
    append(tmp_path / "log", make_rows(30))
    monitors = Monitors(tmp_path / "state", str(tmp_path / "log"), lambda _: make_reference())
    trigger = make(tmp_path / "state")
    watcher = Watcher(monitors, trigger, QUICK, str(tmp_path / "log"), poll_s=60, retention_days=400)
    client = TestClient(build(watcher, "a-token-of-this-test"))
    body = notification("firing", TASK, now() - MINUTES_AGO)
    assert client.post("/v1/alerts", json=body).status_code == 401
    headers = {"Authorization": "Bearer a-token-of-this-test"}
    assert client.post("/v1/alerts", json=body, headers=headers).json() == {"alerts": 1}
    assert client.post("/v1/alerts", content=b"{}", headers=headers).status_code == 400
    body["alerts"][0]["startsAt"] = "2026-03-01T12:00:00"  # without a zone, every later step would fail
    assert client.post("/v1/alerts", json=body, headers=headers).status_code == 400
    body = notification("firing", TASK, now() - MINUTES_AGO)
    assert client.post("/v1/alerts", content=b"x" * (2 << 20), headers=headers).status_code == 413
    watcher.step()
    assert "echoplane_retraining_waiting 1.0" in client.get("/metrics").text
    page = client.get("/").text
    assert TASK in page
    assert "EchoplaneDrift" in page
    assert client.get("/livez").status_code == 503
    here = TestClient(build(watcher, ""), base_url="http://127.0.0.1")
    assert here.post("/v1/alerts", json=body).status_code == 200
    assert here.post("/v1/alerts", json=body, headers={"Origin": "https://example.org"}).status_code == 401
    monitors.close()


def token_of(path: Path, name: str, *roles: Role) -> dict[str, str]:
    token, entry = new_token(name, "lakeside", roles)
    change_tokens(path, add=entry)
    return {"Authorization": f"Bearer {token}"}


def test_a_person_decides_on_the_page_in_the_name_of_the_token(tmp_path):
    trigger, tokens = make(tmp_path / "state"), tmp_path / "tokens.json"
    operator, reader = token_of(tokens, "head-of-echo", "operate"), token_of(tokens, "reader", "predict")
    monitors = Monitors(tmp_path / "state", str(tmp_path / "log"), lambda _: make_reference())
    watcher = Watcher(monitors, trigger, QUICK, str(tmp_path / "log"), poll_s=60, retention_days=400)
    client = TestClient(build(watcher, "", str(tokens)))
    alert(trigger)
    trigger.step()
    (waiting,) = loop_of(trigger.audit.events(), QUICK, now()).with_status("waiting")
    assert f'data-request="{waiting.id}"' in client.get("/").text
    body = {"kind": "approved", "request": waiting.id, "reason": "new scanner"}

    def answer(headers=None, **changes):
        return client.post("/v1/retraining", json=body | changes, headers=headers)

    assert (answer().status_code, answer(reader).status_code) == (401, 403)
    assert answer(operator, kind="started").status_code == 400
    assert answer(operator, by="somebody else").status_code == 400
    assert answer(operator, reason="x" * 501).status_code == 400
    assert answer(operator, request="unknown").status_code == 409
    assert client.post("/v1/retraining", content=b"x" * 20_000, headers=operator).status_code == 413
    assert kinds(tmp_path / "state") == ["requested"]
    assert answer(operator).json()["by"] == "head-of-echo"
    assert answer(operator).status_code == 409  # decided once
    assert kinds(tmp_path / "state") == ["requested", "approved"]
    assert answer(operator, kind="stopped", request="").status_code == 200
    assert "Let runs start again" in client.get("/").text
    monitors.close()


def test_without_a_token_file_nobody_decides_over_http(tmp_path):
    monitors = Monitors(tmp_path / "state", str(tmp_path / "log"), lambda _: make_reference())
    watcher = Watcher(monitors, make(tmp_path / "state"), QUICK, str(tmp_path / "log"), poll_s=60, retention_days=400)
    client = TestClient(build(watcher, ""))
    refused = client.post("/v1/retraining", json={"kind": "stopped"})
    assert (refused.status_code, "ECHOPLANE_MONITOR_TOKEN_FILE" in refused.json()["problem"]) == (403, True)
    assert "<button" not in client.get("/").text
    (tmp_path / "tokens.json").write_text("no tokens")
    client = TestClient(build(watcher, "", str(tmp_path / "tokens.json")))
    assert (
        client.post("/v1/retraining", json={"kind": "stopped"}, headers={"Authorization": "Bearer x"}).status_code
        == 503
    )
    assert kinds(tmp_path / "state") == []
    monitors.close()


def test_lines_of_the_audit_file_are_json_with_the_account_that_wrote_them(tmp_path):
    trigger = make(tmp_path)
    alert(trigger)
    trigger.step()
    approve(tmp_path)
    lines = [json.loads(line) for line in trigger.audit.path.read_text().splitlines()]
    assert [line["by"] for line in lines] == ["monitor", "alex"]
    assert lines[1]["user"]
    assert trigger.audit.path.stat().st_mode & 0o022 == 0


def test_an_approval_that_nothing_can_carry_out_is_told(tmp_path, capsys, caplog):
    trigger = make(tmp_path, command="")
    alert(trigger)
    trigger.step()
    approve(tmp_path)
    assert "if its ECHOPLANE_RETRAIN_COMMAND is set" in capsys.readouterr().out
    for _ in range(2):
        trigger.step()
    assert [message for message in caplog.messages if "ECHOPLANE_RETRAIN_COMMAND is not set" in message] == [
        f"request {AuditFile(tmp_path).events()[0].request} is approved, and nothing starts: "
        "ECHOPLANE_RETRAIN_COMMAND is not set"
    ]
    assert kinds(tmp_path) == ["requested", "approved"]
