"""One file from disk to disk: read, clean, verify, publish, or set aside.

Under the output folder: `dicom/` the results, `quarantine/` originals that hold PHI (mode 0700, named by keyed
digest), `ledger/` one small record for each instance written. The record is claimed with a hard link, which only
one process can make, so two files with the same SOP Instance UID can't both become the output.
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
_LOOKS = 3  # at the written pixels: what one finds is masked, and the next must find nothing


def deidentify_file(source: Path, out_dir: Path, key: Key, policy: Policy) -> Outcome:
    """De-identify one file into `out_dir`. Never raises for what is in the file; see `Outcome.reason`.

    OSError where there is no room to write: no fault of the file, which would be set aside for it.
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
    except Exception:  # the worker must live, and the exception's text may quote the file
        reason = "internal"
    outcome = Outcome(source, status_of(reason), key.digest(data), reason)
    if outcome.status == QUARANTINED:
        set_aside(data, outcome, out_dir)
    return outcome


def read_source(source: Path, policy: Policy) -> bytes:
    """The bytes of a regular file; links, devices, files over the cap and what can't be opened are held."""
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
    """Clean, write, verify and claim one file; FileRejected where it does not pass. digest: the keyed one of `data`.

    `vouch` is given where a person accepts the pixels, and is called with what is about to be released."""
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
        # until it is verified it may hold PHI: it waits where others can't look, also after a crash
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
    """Read the file from disk again, and look for the patient in it; the blocks of its pixels that still hold text."""
    expected = instance.expected_of(clean.context)
    written = verify.header(path.read_bytes(), suspects.collect(clean.original, expected.kept), expected)
    return None if clean.shape is None else reread.pixels(written, clean.shape, clean.mask, accepted)


def _release(temporary: Path, outcome: Outcome, out_dir: Path, policy: Policy) -> Outcome:
    """Claim the instance and move the verified file to its place."""
    final = out_dir / str(outcome.output)
    _claim(outcome, out_dir, policy)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.chmod(_OUTPUT_MODE)
    temporary.replace(final)
    return outcome


def _outcome(dataset: Dataset, content: bytes, source: Path, digest: str) -> Outcome:
    """Of a file that may be released: what it is, and where it belongs."""
    pseudonym, sop_uid = str(dataset.PatientID), str(dataset.SOPInstanceUID)
    return Outcome(
        source=source,
        status=WRITTEN,
        input_digest=digest,
        output=Path("dicom", pseudonym, str(dataset.StudyInstanceUID), f"{sop_uid}.dcm"),
        output_digest=hashlib.sha256(content).hexdigest(),
        pseudonym=pseudonym,
        new_sop_uid=sop_uid,
    )


def _write_temporary(content: bytes, final: Path) -> Path:
    """A finished file beside `final` under a name of its own."""
    final.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".writing-", dir=final.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:  # a full disk: what is half written may be a patient's
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _policy_digest(policy: Policy) -> str:
    return hashlib.sha256(f"{__version__} {policy.model_dump_json()}".encode()).hexdigest()


def _record_path(out_dir: Path, new_sop_uid: str | None) -> Path:
    return out_dir / "ledger" / f"{new_sop_uid}.json"


def _finished(source: Path, digest: str, out_dir: Path, policy: Policy) -> Outcome | None:
    """The outcome of an earlier run for these very bytes, if its output is still what it was."""
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
        actions=record["actions"],
    )


def _audit(out_dir: Path) -> str:
    """Who accepted what, in lines that hold the output's digest; empty where nobody did."""
    try:
        return (out_dir / AUDIT).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _claim(outcome: Outcome, out_dir: Path, policy: Policy) -> None:
    """Record the instance as coming from this input; FileRejected where another input has it already."""
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
    """The folder for what holds PHI, or may."""
    quarantine = out_dir / "quarantine"
    quarantine.mkdir(parents=True, exist_ok=True, mode=0o700)
    quarantine.chmod(0o700)
    return quarantine


def remove_leftovers(out_dir: Path) -> None:
    """What a killed run has left unfinished; call it where no other run writes."""
    for folder in ("", "quarantine", "ledger"):
        for path in (out_dir / folder).glob(".writing-*"):
            path.unlink(missing_ok=True)


def set_aside(data: bytes, outcome: Outcome, out_dir: Path) -> None:
    """The original into the quarantine, for a person to look at; it holds PHI. Nothing, where nothing could be read."""
    if not data:
        return
    quarantine = _quarantine(out_dir)
    for name, content in (
        (f"{outcome.input_digest}.dcm", data),
        (f"{outcome.input_digest}.json", json.dumps(outcome.to_dict()).encode()),
    ):
        _write_temporary(content, quarantine / name).replace(quarantine / name)


def relative_to(outcome: Outcome, folder: Path) -> Outcome:
    """The same outcome with its source as a path below `folder`, as label tables name it."""
    return replace(outcome, source=outcome.source.relative_to(folder))
