"""The audit log: what was changed, removed, inserted or cut off is found, and without a record nothing happens."""

import json
from pathlib import Path

import pytest

from echoplane import cli
from echoplane.audit import append, log_path, read_hashed, read_log
from echoplane.errors import AuditError, ConfigError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "audit.jsonl"
    for number in range(3):
        append(path, "promotion", by="tester", subject="echo-view-video", details={"version": str(number)})
    return path


def test_records_are_chained_and_complete(log: Path) -> None:
    records = read_log(log)
    assert [record.number for record in records] == [1, 2, 3]
    assert [record.details["version"] for record in records] == ["0", "1", "2"]
    hashes = [digest for _, digest in read_hashed(log)]
    assert [record.previous for record in records] == ["0" * 64, *hashes[:2]]


def test_an_action_that_is_repeated_at_once_has_one_record(log: Path) -> None:
    again = append(log, "promotion", by="tester", subject="echo-view-video", details={"version": "2"})
    assert len(read_log(log)) == 3
    assert again[1] == read_hashed(log)[-1][1]


@pytest.mark.parametrize("change", ["edit", "rehash", "remove", "insert", "truncate", "swap"])
def test_a_changed_removed_or_inserted_record_is_found(log: Path, change: str) -> None:
    import hashlib

    lines = log.read_text().splitlines(keepends=True)
    if change in ("edit", "rehash"):
        stated = json.loads(lines[1])
        stated["record"] = stated["record"].replace("tester", "nobody")
        if change == "rehash":
            stated["sha256"] = hashlib.sha256(stated["record"].encode()).hexdigest()
        lines[1] = json.dumps(stated) + "\n"
    elif change == "remove":
        del lines[1]
    elif change == "insert":
        lines.insert(1, lines[1])
    elif change == "swap":
        lines[0], lines[1] = lines[1], lines[0]
    else:
        lines[2] = lines[2][:-5]
    log.write_text("".join(lines))
    with pytest.raises(AuditError):
        read_log(log)
    with pytest.raises(AuditError):
        append(log, "rollback", by="tester", subject="echo-view-video", details={})
    assert log.read_text() == "".join(lines)


def test_a_log_that_was_cut_off_is_found_by_a_hash_kept_elsewhere(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = read_hashed(log)[-1][1]
    verify = ["audit", "verify", "--log", str(log)]
    assert cli.main([*verify, "--holds", last]) == 0
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    assert cli.main(verify) == 0
    assert "2 records intact" in capsys.readouterr().out
    assert cli.main([*verify, "--holds", last]) == 1


def test_a_log_that_cannot_be_written_stops_the_action(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="nothing was done"):
        append(tmp_path / "file" / "audit.jsonl", "rollback", by="a", subject="b", details={})


def test_the_log_is_shown_by_subject(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(log, "rollback", by="on-call", subject="cmr-segmentation", details={"reason": "wrong masks"})
    assert cli.main(["audit", "show", "--log", str(log), "--subject", "cmr-segmentation"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "rollback  cmr-segmentation  by on-call  reason=wrong masks" in line


def test_a_process_without_home_must_be_told_where_the_log_is() -> None:
    with pytest.raises(ConfigError, match="ECHOPLANE_AUDIT_LOG"):
        log_path({})
    assert log_path({"ECHOPLANE_AUDIT_LOG": "/log"}) == Path("/log")
