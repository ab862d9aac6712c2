"""Rings, policy, plans, uploads, downloads and the command `echoplane edge`, each by itself."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from tuf.api.exceptions import DownloadError

from echoplane import cli
from echoplane.edge.fleet import Received, Report, Seen, TaskReport, read_report
from echoplane.edge.policy import Policy, decide
from echoplane.edge.rollout import ALL, Candidate, TaskPlan, place, ring_cut, wanted
from echoplane.errors import ConfigError
from serving.edge import check, sync, trust
from serving.edge.download import Interrupted, download
from serving.edge.settings import read_edge_settings
from serving.edge.state import device_id, read_state
from serving.edge.trust import MAX_FETCH_BYTES, HttpxFetcher
from tests.tiny_bundle import make_tiny_bundle

TASK = "echo-view-video"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEW, OLD = "a" * 64, "b" * 64
DEVICES = [f"box-{number}" for number in range(200)]


def candidate(**changed: object) -> Candidate:
    ring = {"bundle": NEW, "ring": "all", "cut": ALL, "since": NOW - timedelta(hours=30)}
    return Candidate.model_validate(ring | changed)


def report(device: str, state: str, attempt: int = 1, reason: str = "") -> Report:
    bundle = NEW if state == "serving" else OLD
    task = TaskReport(state=state, bundle=bundle, wanted=NEW, attempt=attempt, reason=reason)
    return Report(device=device, channel="stable", time=NOW, version="0", tasks={TASK: task}, free_mib=1)


def members(ring: str, known: list[str]) -> set[str]:
    cut = ring_cut(ring, known)
    return {device for device in known if place(device) <= cut}


@pytest.mark.parametrize(("known", "sizes"), [(1, (1, 1, 1)), (10, (1, 1, 10)), (11, (1, 2, 11)), (200, (1, 20, 200))])
def test_rings_are_one_device_a_tenth_and_all_each_within_the_next(known: int, sizes: tuple[int, ...]) -> None:
    first, tenth, every = (members(ring, DEVICES[:known]) for ring in ("first", "tenth", "all"))
    assert (len(first), len(tenth), len(every)) == sizes
    assert first <= tenth <= every
    assert members("tenth", list(reversed(DEVICES[:known]))) == tenth, "the order of reports decides nothing"


def test_a_ring_of_an_unknown_fleet_is_refused() -> None:
    with pytest.raises(ConfigError, match="no device has reported"):
        ring_cut("first", [])


def test_a_device_gets_the_candidate_within_the_cut_and_the_stable_bundle_else() -> None:
    plan = TaskPlan(stable=OLD, candidate=candidate(ring="tenth", cut="7" * 16))
    assert wanted(plan, "7" * 16).bundle == NEW
    assert wanted(plan, "8" * 16).bundle == OLD
    halted = plan.model_copy(update={"candidate": candidate(halted="wrong labels")})
    assert wanted(halted, "0" * 16).bundle == OLD
    assert "wrong labels" in wanted(halted, "0" * 16).reason
    assert wanted(TaskPlan(candidate=candidate(cut="7" * 16)), "8" * 16) is None


@pytest.mark.parametrize(
    ("states", "change", "action"),
    [
        (["serving"] * 19 + ["refused"], {}, "done"),
        (["serving"] * 17 + ["refused"] * 3, {}, "halt"),
        (["refused"], {"ring": "first"}, "halt"),
        (["serving"], {"ring": "first"}, "widen"),
        (["serving"], {"ring": "first", "since": NOW}, "wait"),
        (["serving"] * 8 + ["waiting"] * 2, {"ring": "tenth"}, "wait"),
        ([], {"ring": "first"}, "wait"),
        (["refused"], {"halted": "by hand"}, "wait"),
        (["refused"] * 3 + ["serving"] * 17, {"attempt": 2}, "wait"),
    ],
)
def test_the_policy_halts_widens_or_waits(states: list[str], change: dict[str, object], action: str) -> None:
    seen = [Seen(report(f"box-{number}", state), NOW) for number, state in enumerate(states)]
    plan = TaskPlan(stable=OLD, candidate=candidate(**change))
    assert decide(plan, TASK, Received(seen, []), Policy(), NOW).action == action


def test_what_is_no_report_is_left_out() -> None:
    known = report("box-1", "serving")
    assert read_report(known.model_dump_json().encode()) == known
    assert read_report(b"{}") is None
    assert read_report(known.model_dump_json().replace("box-1", "../x").encode()) is None


def edge(*arguments: object) -> int:
    return cli.main(["edge", *map(str, arguments), "--json"])


def test_the_command_publishes_halts_by_policy_resumes_and_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo, keys, store, reports = (tmp_path / name for name in ("repo", "keys", "store", "reports"))
    bundle = make_tiny_bundle(tmp_path / "bundle")
    assert edge("init", repo, "--new-keys", keys) == 0
    assert {path.stat().st_mode & 0o777 for path in keys.rglob("*.pem")} == {0o600}
    rest = ("--keys", keys, "--to", store)
    assert edge("publish", repo, "--bundle", bundle, *rest) == 2, "nobody has reported"
    assert edge("publish", repo, "--bundle", bundle, "--devices", "box-1,box-2", *rest) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["ring"] == "first"
    assert first["cut"] == min(place("box-1"), place("box-2"))
    assert (store / "metadata" / "timestamp.json").read_bytes() == (repo / "metadata" / "timestamp.json").read_bytes()
    reports.mkdir()
    lucky = min("box-1", "box-2", key=place)
    refused = report(lucky, "refused", reason="golden output: off by 5")
    task = refused.tasks[TASK].model_copy(update={"wanted": first["bundle"]})
    (reports / f"{lucky}.json").write_text(refused.model_copy(update={"tasks": {TASK: task}}).model_dump_json())
    assert edge("status", repo, "--reports", reports, "--keys", keys / "online", "--act", "--to", store) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[TASK]["decision"] == "halt"
    assert edge("widen", repo, "--task", TASK, "--ring", "all", *rest) == 2
    assert "golden output: off by 5" in capsys.readouterr().err
    assert edge("resume", repo, "--task", TASK, *rest) == 0
    assert json.loads(capsys.readouterr().out)["attempt"] == 2
    assert edge("refresh", repo, *rest) == 0


def test_offline_keys_are_needed_for_a_bundle_and_not_for_a_halt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo, keys = tmp_path / "repo", tmp_path / "keys"
    bundles = [make_tiny_bundle(tmp_path / str(seed), seed) for seed in (1, 2)]
    edge("init", repo, "--new-keys", keys)
    two = ("--keys", keys / "targets-1", "--keys", keys / "targets-3", "--keys", keys / "online")
    assert edge("publish", repo, "--bundle", bundles[0], "--ring", "all", *two) == 0
    assert edge("publish", repo, "--bundle", bundles[1], "--ring", "all", *two[2:]) == 2
    assert "role targets needs 2 of its keys, and 1 were given" in capsys.readouterr().err
    assert edge("halt", repo, "--task", TASK, "--reason", "wrong labels", "--keys", keys / "online") == 0


def test_another_bundle_waits_until_the_first_reached_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo, keys = tmp_path / "repo", tmp_path / "keys"
    edge("init", repo, "--new-keys", keys)
    one, two, three = (make_tiny_bundle(tmp_path / str(seed), seed) for seed in (1, 2, 3))
    more = ("--keys", keys, "--devices", "box-1")
    assert edge("publish", repo, "--bundle", one, *more) == 0
    assert edge("publish", repo, "--bundle", two, *more) == 2
    assert "widen it to all, or halt it first" in capsys.readouterr().err
    for bundle, ring in ((one, "all"), (two, "all"), (three, "first")):
        assert edge("publish", repo, "--bundle", bundle, "--ring", ring, *more) == 0
    listed = json.loads(
        max((repo / "metadata").glob("*.targets.json"), key=lambda path: path.stat().st_mtime).read_text()
    )
    assert len({path.split("/")[1] for path in listed["signed"]["targets"]}) == 2, "the first bundle can't come back"


def answer(content: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(content))


def serve(*answers: httpx.Response) -> httpx.Client:
    left = iter(answers)
    return httpx.Client(transport=httpx.MockTransport(lambda _: next(left)))


def test_a_server_without_ranges_begins_anew_and_a_longer_file_is_seen(tmp_path: Path) -> None:
    """The server is a double."""
    path = tmp_path / "file"
    path.write_bytes(b"01234")
    download(serve(answer(b"abcdefgh")), "http://x/", path, 8)
    assert path.read_bytes() == b"abcdefgh"
    path.unlink()
    with pytest.raises(Interrupted, match="more than the 8 bytes"):
        download(serve(answer(b"abcdefghij")), "http://x/", path, 8)


def test_a_server_that_answers_errors_is_asked_three_times(tmp_path: Path) -> None:
    """The server is a double."""
    client = serve(*(httpx.Response(503) for _ in range(3)))
    with pytest.raises(Interrupted, match="HTTP 503"):
        download(client, "http://x/", tmp_path / "file", 8, wait=lambda _: None)


def test_a_part_that_is_sent_again_replaces_itself(tmp_path: Path) -> None:
    spool, store, sent = tmp_path / "spool", tmp_path / "store", {}
    spool.mkdir()
    path = spool / "predictions-1-7.jsonl"
    path.write_bytes(b"1\n2\n")

    def lost(name: str, content: bytes) -> None:
        sync.putter(str(store), None)(name, content)
        raise sync.Unsent("the answer got lost.")

    with pytest.raises(sync.Unsent):
        sync.send_results(lost, "box-1", spool, sent, sent.update)
    path.write_bytes(b"1\n2\n3\n")
    sync.send_results(sync.putter(str(store), None), "box-1", spool, sent, sent.update)
    assert b"".join(part.read_bytes() for part in (store / "box-1").iterdir()) == b"1\n2\n3\n"
    assert sync.waiting_bytes(spool, sent) == 0


def test_a_check_that_crashes_hangs_or_fails_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(check.Refused, match=r"no bundle\.json"):
        check.check(TASK, tmp_path, 60)
    for code, reason in (("import os; os.abort()", "crashed with status -6"), ("while True: pass", "within 0.5 s")):
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\nexec /usr/bin/env python3 -c '{code}'\n")
        program.chmod(0o755)
        monkeypatch.setattr(check.sys, "executable", str(program))
        with pytest.raises(check.Refused, match=reason):
            check.check(TASK, tmp_path, 0.5 if "while" in code else 60)


def test_a_device_keeps_its_id_and_survives_a_damaged_state(tmp_path: Path) -> None:
    assert device_id(tmp_path, "") == device_id(tmp_path, "")
    (tmp_path / "state.json").write_text("{")
    assert read_state(tmp_path).refusals == {}
    with pytest.raises(ConfigError):
        device_id(tmp_path, "a/b")


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOPLANE_EDGE_ROOT_FILE", "/root.json")
    with pytest.raises(ConfigError, match="ECHOPLANE_EDGE_REPOSITORY_URL"):
        read_edge_settings()


class Endless(httpx.SyncByteStream):
    """A body without an end; `sent` counts its pieces of 1 MiB."""

    sent = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.sent += 1
            yield bytes(1 << 20)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_metadata_without_an_end_is_refused_before_it_fills_the_memory(encoding: str) -> None:
    body = Endless()
    headers = {"Content-Encoding": encoding}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=body))
    with pytest.raises(DownloadError, match="more, or more slowly"):
        HttpxFetcher(httpx.Client(transport=transport)).fetch("https://repository.example/metadata/2.root.json")
    assert body.sent == 1 + (MAX_FETCH_BYTES >> 20)


def test_metadata_that_comes_slowly_does_not_hold_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = iter(range(0, 10_000, 100))
    monkeypatch.setattr(trust.time, "monotonic", lambda: next(clock_s))
    body = Endless()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    with pytest.raises(DownloadError, match="more, or more slowly"):
        HttpxFetcher(httpx.Client(transport=transport)).fetch("https://repository.example/metadata/2.root.json")
    assert body.sent == 4
