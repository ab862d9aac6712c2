"""Files, folders, quarantine and report; the cases of a demanding hospital carry their numbers."""

import errno
import json
import mmap
import os
import resource
import signal
import socket
import stat
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    EncapsulatedCDAStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from echoplane.deid import Key, Policy, Report, accept, deidentify_file, deidentify_folder, jpeg, load_key, verify
from echoplane.deid import files as deid_files
from echoplane.errors import ConfigError
from tests.unit.test_deid_builder import (
    KEY,
    NAME,
    OTHER_KEY,
    PATIENT_ID,
    clip,
    echo,
    frozen,
    run,
    set_native,
    to_bytes,
    written,
    written_bytes,
)

PHI = ("zwetschgen", "rosalinde", "mrn4711077", "hinterwald", "quacksalber", "acc88231", "19480229", "20240317")


def folder(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    source = tmp_path / "in"
    for name, content in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    return source


def instance(number: int, **changes: object) -> bytes:
    return to_bytes(echo(clip(seed=number), SOPInstanceUID=f"1.2.826.0.1.999.3.{number}", **changes))


def everything_written(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_case_10_no_identifier_reaches_names_reports_or_messages(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = folder(
        tmp_path,
        {
            f"Zwetschgen/{PATIENT_ID}.dcm": instance(1),
            f"{PATIENT_ID}-broken.dcm": instance(2)[:-500],
            "Rosalinde.txt": b"Rosalinde",
        },
    )
    report = deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    assert report.counts == {"written": 1, "quarantined": 1, "refused": 1}
    for name, content in everything_written(tmp_path / "out").items():
        assert not [phi for phi in PHI if phi in name.lower()]
        if not name.startswith("quarantine/") or name.endswith(".json"):
            assert not [phi for phi in PHI if phi.encode() in content.lower()], name
    shown = "".join(capfd.readouterr()) + repr(report) + report.to_json() + repr(KEY)
    assert not [phi for phi in PHI if phi in shown.lower()]
    assert sorted(str(outcome.source) for outcome in report.outcomes) == sorted(
        [f"Zwetschgen/{PATIENT_ID}.dcm", f"{PATIENT_ID}-broken.dcm", "Rosalinde.txt"]
    )


@pytest.mark.parametrize(
    ("sop_class", "reason"),
    [
        (EncapsulatedPDFStorage, "encapsulated-document"),
        (EncapsulatedCDAStorage, "encapsulated-document"),
        (ComprehensiveSRStorage, "report"),
        (MediaStorageDirectoryStorage, "dicomdir"),
        ("1.2.3.4.5", "sop-class"),
    ],
)
def test_case_20_and_37_documents_reports_and_directories_are_refused(
    tmp_path: Path, sop_class: str, reason: str
) -> None:
    dataset = echo(SOPClassUID=sop_class)
    set_native(dataset, clip(), "RGB")
    outcome = run(dataset, tmp_path)
    assert (outcome.status, outcome.reason) == ("refused", reason)
    assert not (tmp_path / "out" / "quarantine").exists()


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99, 0.9999])
def test_case_26_a_truncated_file_is_quarantined(tmp_path: Path, kept: float) -> None:
    content = to_bytes(echo())
    outcome = run(content[: int(len(content) * kept)], tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "truncated")


def test_case_26_a_truncated_native_image_is_quarantined(tmp_path: Path) -> None:
    dataset = echo()
    set_native(dataset, clip(), "RGB")
    assert run(to_bytes(dataset)[:-10], tmp_path).reason == "truncated"


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 128 + b"DICX" + b"\0" * 200, b"\x08\x00\x05\x00CS"])
def test_case_27_what_is_not_dicom_is_refused_and_not_copied(tmp_path: Path, content: bytes) -> None:
    outcome = run(content, tmp_path)
    assert (outcome.status, outcome.reason) == ("refused", "not-dicom")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_case_28_a_wrong_transfer_syntax_is_quarantined(tmp_path: Path, syntax: str) -> None:
    content = to_bytes(echo())
    lie = str(syntax).ljust(22, "\0").encode()
    outcome = run(content.replace(b"1.2.840.10008.1.2.4.50", lie), tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "wrong-transfer-syntax")


def test_case_34_the_same_uid_with_other_bytes_is_a_conflict(tmp_path: Path) -> None:
    first = run(echo(), tmp_path, name="1.dcm")
    before = written_bytes(first, tmp_path)
    second = run(echo(clip(seed=99)), tmp_path, name="2.dcm")
    assert (second.status, second.reason) == ("quarantined", "conflict")
    assert written_bytes(first, tmp_path) == before


def test_case_40_a_second_run_changes_nothing_and_redoes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder(tmp_path, {f"{n}.dcm": instance(n) for n in (1, 2)})
    first = deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    before = everything_written(tmp_path / "out")
    monkeypatch.setattr(deid_files.instance, "clean", lambda *_: pytest.fail("done twice"))
    second = deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    assert second.digest == first.digest
    assert everything_written(tmp_path / "out") == before


def test_case_40_its_own_output_comes_out_as_it_went_in(tmp_path: Path) -> None:
    raw = written_bytes(run(echo(), tmp_path / "one"), tmp_path / "one")
    again = run(raw, tmp_path / "two")
    assert written_bytes(again, tmp_path / "two") == raw
    same_folder = run(raw, tmp_path / "one", name="own.dcm")
    assert same_folder.status == "written"


def test_case_40_its_own_output_is_left_though_another_look_would_find_more(tmp_path: Path) -> None:
    """A still that a person has accepted would be held again; a bit that has changed makes it a file like others."""
    held = run(frozen(), tmp_path)
    accept(held.input_digest, tmp_path / "out", KEY, Policy(), person="R. Reviewer")
    (path,) = (tmp_path / "out" / "dicom").rglob("*.dcm")
    raw = path.read_bytes()
    again = run(raw, tmp_path / "again")
    assert again.flags == ("own-output",)
    assert written_bytes(again, tmp_path / "again") == raw
    assert run(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], tmp_path / "bit").flags != ("own-output",)
    assert run(raw, tmp_path / "key", key=OTHER_KEY).flags != ("own-output",)
    assert run(raw, tmp_path / "policy", policy=Policy(dates="remove")).flags != ("own-output",)


def test_a_file_without_a_patient_gets_a_pseudonym_in_both_places(tmp_path: Path) -> None:
    dataset = echo()
    del dataset.PatientName, dataset.PatientID
    result = written(run(dataset, tmp_path), tmp_path)
    assert result.PatientID == result.PatientName
    assert KEY.issued_pseudonym(result.PatientID)


def test_case_40_a_damaged_output_is_made_again(tmp_path: Path) -> None:
    outcome = run(echo(), tmp_path)
    good = written_bytes(outcome, tmp_path)
    (tmp_path / "out" / str(outcome.output)).write_bytes(good[:-40])
    assert written_bytes(run(echo(), tmp_path), tmp_path) == good


def test_case_40_two_workers_give_what_one_gives(tmp_path: Path) -> None:
    source = folder(tmp_path, {f"{n}.dcm": instance(n) for n in range(1, 7)} | {"copy.dcm": instance(3)})
    one = deidentify_folder(source, tmp_path / "one", KEY, Policy(), workers=1)
    seen: list[tuple[int, int]] = []
    two = deidentify_folder(
        source, tmp_path / "two", KEY, Policy(), workers=2, progress=lambda done, total: seen.append((done, total))
    )
    assert one.digest == two.digest
    assert seen == [(n, 7) for n in range(1, 8)]
    assert not list((tmp_path / "two").rglob(".writing-*"))


def test_case_40_a_crash_midway_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deid_files, "_claim", crash)
    with pytest.raises(KeyboardInterrupt):
        run(echo(), tmp_path)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_case_40_what_a_killed_run_left_is_removed_and_was_closed_to_others(tmp_path: Path) -> None:
    source = folder(tmp_path, {"a.dcm": instance(1)})
    (tmp_path / "out" / "quarantine").mkdir(parents=True)
    (tmp_path / "out" / "quarantine" / ".writing-x").write_bytes(b"Rosalinde")
    deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    assert not list((tmp_path / "out" / "quarantine").iterdir())


def test_case_41_links_and_special_files_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path, {"a.dcm": instance(1)})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.dcm").write_bytes(instance(2))
    (source / "link.dcm").symlink_to(tmp_path / "elsewhere" / "b.dcm")
    (source / "linked-folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(source / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "s"))
        report = deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    assert report.counts == {"written": 1, "quarantined": 0, "refused": 4}
    assert report.reasons == {"not-a-file": 4}


def test_a_file_over_the_cap_is_refused_unread(tmp_path: Path) -> None:
    source = tmp_path / "big.dcm"
    source.write_bytes(bytes(128) + b"DICM")
    os.truncate(source, 2 << 20)
    assert deidentify_file(source, tmp_path / "out", KEY, Policy(max_file_mib=1)).reason == "too-large"


def test_quarantine_is_closed_to_others_and_named_by_keyed_digest(tmp_path: Path) -> None:
    content = to_bytes(frozen())
    outcome = run(content, tmp_path)
    quarantine = tmp_path / "out" / "quarantine"
    assert stat.S_IMODE(quarantine.stat().st_mode) == 0o700
    assert (quarantine / f"{outcome.input_digest}.dcm").read_bytes() == content
    assert stat.S_IMODE((quarantine / f"{outcome.input_digest}.dcm").stat().st_mode) == 0o600
    assert outcome.input_digest == KEY.digest(content)


def test_verification_catches_a_header_rule_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echoplane.deid.clean_text.clean", lambda values, *_, **__: values)
    outcome = run(echo(StudyDescription="TTE Rosalinde"), tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "verify-header")
    assert not list((tmp_path / "out" / "dicom").rglob("*.dcm"))


def test_verification_catches_a_mask_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg.Masker, "_blacken", lambda *_: None)
    assert run(echo(), tmp_path).reason == "verify-pixels"


def test_verification_catches_an_identifier_in_raw_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = verify.header
    monkeypatch.setattr(verify, "header", lambda raw, *rest: seen(raw + PATIENT_ID.encode(), *rest))
    assert run(echo(), tmp_path).reason == "verify-header"


def test_an_unexpected_error_quarantines_and_does_not_quote_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AttributeError(NAME)

    monkeypatch.setattr(deid_files.instance, "clean", fail)
    outcome = run(echo(), tmp_path)
    assert (outcome.status, outcome.reason) == ("quarantined", "internal")
    assert "Zwetschgen" not in outcome.sentence


def test_a_full_disk_stops_the_run_and_sets_no_file_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = deid_files._write_temporary, [False]

    def on_a_full_disk(content: bytes, final: Path) -> Path:
        if not room:
            return write(content, final)
        room.clear()  # the first alone fails: somebody else frees some room
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(deid_files, "_write_temporary", on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        run(echo(), tmp_path)
    assert not list((tmp_path / "out").rglob("*.json"))
    assert run(echo(), tmp_path).status == "written"


def test_the_report_shows_written_pixels_counts_and_actions(tmp_path: Path) -> None:
    source = folder(tmp_path, {"a.dcm": instance(1), "b.dcm": to_bytes(frozen())})
    report = deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 1
    assert "region-missing" in page
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["counts"] == {"written": 1, "quarantined": 1, "refused": 0}
    assert saved["actions"]["PatientName"] == {"replaced": 1}
    assert saved["digest"] == report.digest
    assert isinstance(report, Report)


def test_a_picture_that_cannot_be_shown_costs_neither_the_report_nor_the_other_pictures(tmp_path: Path) -> None:
    odd = echo(SOPInstanceUID="1.2.826.0.1.999.3.2")
    set_native(odd, clip()[..., 0], "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(odd, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 12])
        setattr(odd, f"{colour}PaletteColorLookupTableData", (np.arange(256) * 16).astype("<u2").tobytes())
    source = folder(tmp_path, {"a.dcm": instance(1), "b.dcm": to_bytes(odd)})
    deidentify_folder(source, tmp_path / "out", KEY, Policy(), workers=1)
    page = (tmp_path / "out" / "report.html").read_text()
    assert (page.count("<img "), page.count("no picture")) == (1, 1)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["counts"]["written"] == 2


@pytest.mark.parametrize(
    "weak",
    ["", "short", "ab" * 31, "00" * 32, "a" * 64, "abcdefgh" * 4, "0123456789abcdef" * 4, "abcdefghij" * 4 + "abc"],
)
def test_a_weak_or_missing_key_is_an_error_of_configuration(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ECHOPLANE_DEID_KEY", raising=False)
    (tmp_path / "key").write_text(weak)
    with pytest.raises(ConfigError, match="key"):
        load_key(tmp_path / "key")
    with pytest.raises(ConfigError, match="ECHOPLANE_DEID_KEY"):
        load_key(None)


def test_a_key_file_that_everybody_may_write_is_refused_and_a_mounted_secret_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(bytes(range(1, 65)).hex())
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_key(path)
    path.chmod(0o644)
    assert load_key(path).pseudonym("1") == KEY.pseudonym("1")


@pytest.mark.parametrize(
    "content",
    [
        b"# A README, long enough for a pass phrase\n\nwith a second line\n",
        bytes(range(1, 65)).hex().encode() + b"\n" + bytes(range(1, 65)).hex().encode(),
        "a pass phrase with an umlaut, \N{LATIN SMALL LETTER U WITH DIAERESIS}, of some length".encode(),
        bytes(range(128, 192)),
        bytes(range(256)) * 5,
        bytes(range(1, 65)).hex().encode() * 9,
    ],
)
def test_a_key_file_that_is_not_one_line_of_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=r"64 hexadecimal digits or more.*openssl rand -hex 32"):
        load_key(tmp_path / "key")


def test_a_pass_phrase_is_told_from_a_key_in_hex(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "hex").write_text(bytes(range(1, 65)).hex())
    load_key(tmp_path / "hex")
    assert not caplog.messages
    (tmp_path / "phrase").write_text("no hexadecimal digits, but 32 characters\n")
    load_key(tmp_path / "phrase")
    assert caplog.messages == ["the key file is not hexadecimal, and is taken as a pass phrase"]


def test_a_key_is_read_from_file_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = bytes(range(1, 65))
    (tmp_path / "hex").write_text(secret.hex() + "\n")
    monkeypatch.setenv("ECHOPLANE_DEID_KEY", secret.hex())
    keys = [load_key(tmp_path / "hex"), load_key(None)]
    assert {key.pseudonym("1") for key in keys} == {KEY.pseudonym("1")}
    (tmp_path / "text").write_text("no hexadecimal digits, but 32 characters\n")
    monkeypatch.setenv("ECHOPLANE_DEID_KEY", "no hexadecimal digits, but 32 characters")
    assert load_key(tmp_path / "text").pseudonym("1") == load_key(None).pseudonym("1")
    assert repr(keys[0]) == "Key(...)"


def test_what_the_key_issued_is_recognised_and_nothing_else() -> None:
    assert KEY.pseudonym(KEY.pseudonym("4711")) == KEY.pseudonym("4711")
    assert KEY.uid(KEY.uid("1.2.3")) == KEY.uid("1.2.3")
    other = Key(bytes(range(100, 164)))
    assert other.uid(KEY.uid("1.2.3")) != KEY.uid("1.2.3")
    assert KEY.shift_days(KEY.pseudonym("4711")) == KEY.shift_days("4711")
    assert KEY.pseudonym("P-AAAAAAAAAAAAAAAA") != "P-AAAAAAAAAAAAAAAA"
    assert KEY.uid("1.2.840.10008.1.2.1") == "1.2.840.10008.1.2.1"


def test_d19_a_file_of_more_than_2_gib_has_a_digest(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate((1 << 31) + 1)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert len(KEY.digest(data)) == 64  # type: ignore[arg-type]


def test_d20_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limit[1]))  # a write beyond it fails, like one to a full disk
    try:
        with pytest.raises(OSError, match="large"):
            deid_files._write_temporary(bytes(4096), tmp_path / "a.dcm")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_d8_a_scan_made_under_a_pseudonym_is_shifted_like_the_patients_others(tmp_path: Path) -> None:
    first = run(echo(), tmp_path)
    again = echo(PatientID=first.pseudonym, SOPInstanceUID="1.2.826.0.1.999.3.9", SeriesInstanceUID="1.2.826.0.1.9.9")
    second = written(run(again, tmp_path), tmp_path)
    assert (second.PatientID, second.StudyDate) == (first.pseudonym, written(first, tmp_path).StudyDate)
    assert second.StudyDate != "20240317"


def test_a_person_can_accept_pixels_and_is_named_in_the_audit(tmp_path: Path) -> None:
    held = run(frozen(), tmp_path)
    out = tmp_path / "out"
    outcome = accept(held.input_digest, out, KEY, Policy(), person="R. Reviewer")
    assert (outcome.status, outcome.flags) == ("written", ("accepted",))
    line = json.loads((out / "audit.jsonl").read_text())
    assert (line["person"], line["accepted"], line["new_sop_uid"]) == (
        "R. Reviewer",
        "region-missing",
        outcome.new_sop_uid,
    )
    assert not list((out / "quarantine").iterdir())
    raw = written_bytes(outcome, tmp_path)
    assert b"113101" not in raw
    assert not [phi for phi in PHI if phi.encode() in raw.lower()]
    again = run(frozen(), tmp_path)
    assert again.status == "written"


def test_nothing_is_released_before_it_is_on_disk_who_stands_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, out = run(frozen(), tmp_path), tmp_path / "out"

    def on_a_full_disk(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", on_a_full_disk)
        with pytest.raises(OSError, match="No space left"):
            accept(held.input_digest, out, KEY, Policy(), person="R. Reviewer")
    assert not (out / "dicom").exists()
    assert accept(held.input_digest, out, KEY, Policy(), person="R. Reviewer").status == "written"


def test_a_released_file_that_nobody_stands_for_is_held_again(tmp_path: Path) -> None:
    held, out = run(frozen(), tmp_path), tmp_path / "out"
    accept(held.input_digest, out, KEY, Policy(), person="R. Reviewer")
    assert run(frozen(), tmp_path).flags == ("accepted",)
    (out / "audit.jsonl").unlink()
    assert run(frozen(), tmp_path).reason == "region-missing"
    report = deidentify_folder(tmp_path / "in", out, KEY, Policy(), workers=1)
    assert report.counts == {"written": 0, "quarantined": 1, "refused": 0}
    assert not list((out / "dicom").rglob("*.dcm"))


def test_what_looking_cannot_clear_is_not_accepted(tmp_path: Path) -> None:
    held = run(to_bytes(echo())[:-500], tmp_path)
    with pytest.raises(ConfigError, match="truncated"):
        accept(held.input_digest, tmp_path / "out", KEY, Policy(), person="R. Reviewer")
    with pytest.raises(ConfigError, match="who accepts"):
        accept(held.input_digest, tmp_path / "out", KEY, Policy(), person=" ")
    with pytest.raises(ConfigError, match="digest"):
        accept("../../etc/passwd", tmp_path / "out", KEY, Policy(), person="R. Reviewer")
