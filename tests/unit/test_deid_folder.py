"""One output folder over several runs: what it is of, what it keeps, what it refuses."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echoplane.deid import Key, Policy, accept, deidentify_folder
from echoplane.deid import files as deid_files
from echoplane.errors import ConfigError
from tests.unit.test_deid_builder import KEY, OTHER_KEY, clip, echo, frozen, run
from tests.unit.test_deid_files import everything_written, folder, instance


def released(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in (out / "dicom").rglob("*") if path.is_file()}


def listed(out: Path) -> set[str]:
    outcomes = json.loads((out / "report.json").read_text())["outcomes"]
    return {outcome["output"] for outcome in outcomes if outcome["output"]}


@pytest.mark.parametrize(
    ("key", "policy", "named"),
    [
        (OTHER_KEY, Policy(), "another key"),
        (KEY, Policy(dates="remove"), "another policy"),
        (OTHER_KEY, Policy(dates="keep"), "another policy and another key"),
    ],
)
def test_a_folder_of_another_policy_or_key_is_refused_and_left(
    tmp_path: Path, key: Key, policy: Policy, named: str
) -> None:
    source, out = folder(tmp_path, {"a.dcm": instance(1)}), tmp_path / "out"
    deidentify_folder(source, out, KEY, Policy(), workers=1)
    before = everything_written(out)
    with pytest.raises(ConfigError, match=f"under {named}, .* Give a new folder"):
        deidentify_folder(source, out, key, policy, workers=1)
    assert everything_written(out) == before


def test_a_file_is_accepted_under_the_policy_of_its_folder_alone(tmp_path: Path) -> None:
    held = run(frozen(), tmp_path)
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY, Policy(), workers=1)
    with pytest.raises(ConfigError, match="another policy"):
        accept(held.input_digest, tmp_path / "out", KEY, Policy(dates="keep"), person="R. Reviewer")
    assert not (tmp_path / "out" / "dicom").exists()


def test_what_was_written_of_files_that_are_gone_is_moved_out_of_what_the_report_clears(tmp_path: Path) -> None:
    source, out = folder(tmp_path, {f"{n}.dcm": instance(n) for n in (1, 2)}), tmp_path / "out"
    deidentify_folder(source, out, KEY, Policy(), workers=1)
    first = everything_written(out / "dicom")
    (source / "1.dcm").unlink()
    report = deidentify_folder(source, out, KEY, Policy(), workers=1)
    assert report.counts["written"] == 1
    assert released(out) == listed(out)
    assert everything_written(out / "dicom") | everything_written(out / "unlisted") == first


def test_the_uid_of_a_file_that_is_gone_is_free_for_another(tmp_path: Path) -> None:
    uid = "1.2.826.0.1.999.3.1"
    source, out = folder(tmp_path, {"a.dcm": instance(1)}), tmp_path / "out"
    deidentify_folder(source, out, KEY, Policy(), workers=1)
    run(echo(clip(seed=9), SOPInstanceUID=uid), tmp_path, name="b.dcm")
    (source / "a.dcm").unlink()
    reports = [deidentify_folder(source, out, KEY, Policy(), workers=1) for _ in range(2)]
    assert [report.reasons for report in reports] == [{"conflict": 1}, {}]
    assert released(out) == listed(out) != set()


def test_the_original_of_a_file_that_is_written_at_last_leaves_the_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = folder(tmp_path, {"a.dcm": instance(1)}), tmp_path / "out"
    with monkeypatch.context() as broken:
        broken.setattr(deid_files.instance, "clean", lambda *_: None)
        assert deidentify_folder(source, out, KEY, Policy(), workers=1).reasons == {"internal": 1}
    assert len(list((out / "quarantine").iterdir())) == 2
    assert deidentify_folder(source, out, KEY, Policy(), workers=1).counts["written"] == 1
    assert not list((out / "quarantine").iterdir())


def test_an_interrupted_run_goes_on_and_leaves_nothing_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = folder(tmp_path, {f"{n}.dcm": instance(n) for n in (1, 2)}), tmp_path / "out"
    clean, cleaned = deid_files.instance.clean, []

    def count(data: bytes, *rest: Any) -> Any:
        cleaned.append(data)
        return clean(data, *rest)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deid_files.instance, "clean", count)
    with pytest.raises(KeyboardInterrupt):
        deidentify_folder(source, out, KEY, Policy(), workers=1, progress=stop)
    for left in ("quarantine/.writing-1", "ledger/.writing-2", ".writing-report.json", ".writing-run.json"):
        (out / left).touch()
    report = deidentify_folder(source, out, KEY, Policy(), workers=1)
    assert report.counts["written"] == len(cleaned) == 2
    assert released(out) == listed(out)
    assert not list(out.rglob(".writing-*"))


def denied(function: Callable[..., Any], name: str, number: int) -> Callable[..., Any]:
    """`function` of the system, which fails for paths with this last name; root can read whatever its mode says."""

    def call(path: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(path, str | Path) and Path(path).name == name:
            raise OSError(number, os.strerror(number), str(path))
        return function(path, *rest, **more)

    return call


def test_a_folder_that_can_not_be_read_stops_the_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder(tmp_path, {"a.dcm": instance(1), "Zwetschgen/b.dcm": instance(2)})
    monkeypatch.setattr(os, "scandir", denied(os.scandir, "Zwetschgen", errno.EACCES))
    with pytest.raises(ConfigError, match=r"can't be read \(Permission denied\)") as raised:
        deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    assert "Zwetschgen" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_file_that_can_not_be_opened_is_unreadable_and_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source = folder(tmp_path, {"a.dcm": instance(1)})
    with monkeypatch.context() as closed:
        closed.setattr(os, "open", denied(os.open, "a.dcm", number))
        report = deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    assert (report.counts["quarantined"], report.reasons) == (1, {"unreadable": 1})
    assert not (tmp_path / "out" / "quarantine").exists(), "there is nothing to look at"
    assert deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1).counts["written"] == 1


def test_a_source_without_a_file_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    with pytest.raises(ConfigError, match="no file in the source"):
        deidentify_folder(tmp_path / "in", tmp_path / "out", KEY, Policy(), workers=1)
    assert not (tmp_path / "out").exists()
