"""De-identification of one file on disk: read, clean, verify, and release or quarantine it.

The output folder holds `dicom/` with the results, `quarantine/` with originals that contain PHI (mode 0700, named by
keyed digest), and `ledger/` with one small record per instance written. A record reserves the output's SOP Instance UID
by a hard link, which only one process can create, so that two files with the same UID cannot both become the output.
"""

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from echoplane import __version__
from echoplane.deid import instance, reread, suspects, verify
from echoplane.deid.key import Key
from echoplane.deid.outcome import Outcome
from echoplane.deid.policy import Policy
from echoplane.deid.reasons import QUARANTINED, WRITTEN, FileRejected, status_of

AUDIT = "audit.jsonl"
_OUTPUT_MODE = 0o644
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP)  # a link, a socket, a device
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_LOOKS = 3  # maximum number of passes over the written pixels: text found in one is masked before the next


def deidentify_file(source: Path, out_dir: Path, key: Key, policy: Policy) -> Outcome:
    """De-identifies one file into `out_dir`. Never raises because of the file's content; see `Outcome.reason`.

    Raises OSError if the output cannot be written (such as a full disk): the file must not be quarantined for that.
    """
    data = b""
    try:
        data = read_source(source, policy)
        return _publish(source, data, out_dir, key, policy)
    except FileRejected as held:
        reason = held.reason
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        reason = "unreadable"
    except (RecursionError, MemoryError):
        reason = "unreadable"
    except Exception:  # the worker must go on, and the exception's text may quote the file
        reason = "internal"
    outcome = Outcome(source, status_of(reason), key.digest(data), reason)
    if outcome.status == QUARANTINED:
        set_aside(data, outcome, out_dir)
    return outcome


def read_source(source: Path, policy: Policy) -> bytes:
    """Returns the bytes of a regular file.

    Raises FileRejected for links, devices, files over the size limit, and files that cannot be opened.
    """
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise FileRejected("not-a-file" if error.errno in _NO_FILE else "unreadable") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileRejected("not-a-file")
        if status.st_size > policy.max_file_mib << 20:
            raise FileRejected("too-large")
        if file.read(132)[128:] != b"DICM":
            raise FileRejected("not-dicom")
        file.seek(0)
        return file.read()


def _publish(source: Path, data: bytes, out_dir: Path, key: Key, policy: Policy) -> Outcome:
    digest = key.digest(data)
    done = _finished(source, digest, out_dir, policy)
    return done or publish(source, data, digest, out_dir, key, policy)


def publish(
    source: Path,
    data: bytes,
    digest: str,
    out_dir: Path,
    key: Key,
    policy: Policy,
    vouch: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Cleans, writes, verifies and releases one file. Raises FileRejected if it does not pass.

    digest: keyed digest of `data`. vouch: given if a person accepts the pixels; called with the outcome just before the
    release."""
    accepted = vouch is not None
    own = instance.own_output(data, key, policy)
    if own is not None:
        outcome = replace(_outcome(own, data, source, digest), flags=("own-output",))
        temporary = _write_temporary(data, _quarantine(out_dir) / "own.dcm")
        try:
            return _release(temporary, outcome, out_dir, policy)
        finally:
            temporary.unlink(missing_ok=True)
    text_blocks: np.ndarray | None = None
    for _ in range(_LOOKS):
        clean = instance.clean(data, key, policy, accepted, text_blocks)
        content = clean.to_bytes()
        # until it is verified it may hold PHI: it is kept in the protected quarantine, also after a crash
        temporary = _write_temporary(content, _quarantine(out_dir) / f"{clean.sop_instance_uid}.dcm")
        try:
            more = _verify(temporary, clean, accepted)
            if more is None:
                outcome = _outcome(clean.dataset, content, source, digest)
                outcome = replace(outcome, flags=clean.flags, folded_id=clean.context.folded_id)
                outcome = replace(outcome, actions=dict(clean.context.actions))
                outcome = replace(outcome, scan_blackened=round(clean.scan_blackened, 4))
                if vouch is not None:
                    vouch(outcome)
                return _release(temporary, outcome, out_dir, policy)
        finally:
            temporary.unlink(missing_ok=True)
        text_blocks = more if text_blocks is None else text_blocks | more
    raise FileRejected("text-in-pixels")


def _verify(path: Path, clean: instance.Instance, accepted: bool) -> np.ndarray | None:
    """Reads the file from disk again and searches it for identifying values.

    Returns the blocks of its pixels that still hold text, None if there are none.
    """
    expected = instance.expected_of(clean.context)
    written = verify.header(path.read_bytes(), suspects.collect(clean.original, expected.kept), expected)
    return None if clean.shape is None else reread.pixels(written, clean.shape, clean.mask, accepted)


def _release(temporary: Path, outcome: Outcome, out_dir: Path, policy: Policy) -> Outcome:
    """Reserves the instance's UID and moves the verified file to its final path."""
    final = out_dir / str(outcome.output)
    _claim(outcome, out_dir, policy)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.chmod(_OUTPUT_MODE)
    temporary.replace(final)
    return outcome


def _outcome(dataset: Dataset, content: bytes, source: Path, digest: str) -> Outcome:
    """Returns the outcome of a file that may be released, with its output path."""
    pseudonym, sop_uid = str(dataset.PatientID), str(dataset.SOPInstanceUID)
    return Outcome(
        source=source,
        status=WRITTEN,
        input_digest=digest,
        output=Path("dicom", pseudonym, str(dataset.StudyInstanceUID), f"{sop_uid}.dcm"),
        output_digest=hashlib.sha256(content).hexdigest(),
        pseudonym=pseudonym,
        new_sop_uid=sop_uid,
        claims_clean_pixels=dataset.get("BurnedInAnnotation") == "NO",
    )


def _write_temporary(content: bytes, final: Path) -> Path:
    """Writes a complete file with a unique temporary name in the folder of `final`, and returns its path."""
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".writing-", dir=final.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:  # such as a full disk; the incomplete file may hold PHI
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _policy_digest(policy: Policy) -> str:
    return hashlib.sha256(f"{__version__} {policy.model_dump_json()}".encode()).hexdigest()


def _record_path(out_dir: Path, new_sop_uid: str | None) -> Path:
    return out_dir / "ledger" / f"{new_sop_uid}.json"


def _finished(source: Path, digest: str, out_dir: Path, policy: Policy) -> Outcome | None:
    """Returns the outcome of an earlier run for the same bytes and policy, None if its output is missing or changed."""
    pointer = out_dir / "ledger" / f"{digest}.json"
    if not pointer.exists():
        return None
    record = json.loads(pointer.read_text())
    output = out_dir / record["outcome"]["output"]
    if record["policy"] != _policy_digest(policy) or not output.exists():
        return None
    if hashlib.sha256(output.read_bytes()).hexdigest() != record["outcome"]["output_digest"]:
        return None
    fields = record["outcome"]
    if "claims_clean_pixels" not in fields:  # written before the claim was recorded: the file is made again
        return None
    if "accepted" in fields["flags"] and fields["output_digest"] not in _audit(out_dir):
        return None
    return Outcome(
        source=source,
        status=fields["status"],
        input_digest=fields["input_digest"],
        output=Path(fields["output"]),
        output_digest=fields["output_digest"],
        pseudonym=fields["pseudonym"],
        new_sop_uid=fields["new_sop_uid"],
        flags=tuple(fields["flags"]),
        folded_id=fields["folded_id"],
        scan_blackened=fields["scan_blackened"],
        claims_clean_pixels=fields["claims_clean_pixels"],
        actions=record["actions"],
    )


def _audit(out_dir: Path) -> str:
    """Returns the audit lines of accepted files, which hold the output's digest; empty if there are none."""
    try:
        return (out_dir / AUDIT).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _claim(outcome: Outcome, out_dir: Path, policy: Policy) -> None:
    """Records that the instance comes from this input. Raises FileRejected if another input has its UID already."""
    record = {"policy": _policy_digest(policy), "outcome": outcome.to_dict(), "actions": dict(outcome.actions)}
    path = _record_path(out_dir, outcome.new_sop_uid)
    temporary = _write_temporary(json.dumps(record).encode(), path)
    try:
        os.link(temporary, path)
    except FileExistsError:
        owner = json.loads(path.read_text())["outcome"]
        if outcome.output_digest != owner["output_digest"] and outcome.input_digest != owner["input_digest"]:
            raise FileRejected("conflict") from None
        if outcome.input_digest == owner["input_digest"]:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _write_temporary(json.dumps(record).encode(), path).replace(out_dir / "ledger" / f"{outcome.input_digest}.json")


def _quarantine(out_dir: Path) -> Path:
    """Creates and returns the folder for files that hold PHI, or may."""
    quarantine = out_dir / "quarantine"
    quarantine.mkdir(parents=True, exist_ok=True, mode=0o700)
    quarantine.chmod(0o700)
    return quarantine


def remove_leftovers(out_dir: Path) -> None:
    """Removes temporary files of a killed run; no other run may be writing to the folder."""
    for folder in ("", "quarantine", "ledger"):
        for path in (out_dir / folder).glob(".writing-*"):
            path.unlink(missing_ok=True)


def set_aside(data: bytes, outcome: Outcome, out_dir: Path) -> None:
    """Copies the original, which holds PHI, into the quarantine for a person to inspect; does nothing without data."""
    if not data:
        return
    quarantine = _quarantine(out_dir)
    for name, content in (
        (f"{outcome.input_digest}.dcm", data),
        (f"{outcome.input_digest}.json", json.dumps(outcome.to_dict()).encode()),
    ):
        _write_temporary(content, quarantine / name).replace(quarantine / name)


def relative_to(outcome: Outcome, folder: Path) -> Outcome:
    """Returns the outcome with its source as a path relative to `folder`, as in label tables."""
    return replace(outcome, source=outcome.source.relative_to(folder))
