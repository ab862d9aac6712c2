"""Release of a quarantined file after a person has inspected its pixels.

Only rejections because of pixels can be overruled this way. The header goes through all rules and the verification
again, the border outside a valid region is masked again, and the output makes no statement about burned-in text. The
person, the time and the reason are appended to `audit.jsonl` beside the output and to the installation's audit log, on
disk before the file is released.
"""

import functools
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from echoplane import audit
from echoplane.deid import files, folder
from echoplane.deid.key import Key
from echoplane.deid.outcome import Outcome
from echoplane.deid.policy import Policy
from echoplane.deid.reasons import ACCEPTABLE, QUARANTINED, FileRejected
from echoplane.errors import ConfigError

_LONGEST_NAME = 64
_SHORTEST_PREFIX = 12  # 48 bits: two files of one folder do not share them by chance


def accept(digest: str, out_dir: Path, key: Key, policy: Policy, *, person: str) -> Outcome:
    """De-identifies and releases the quarantined file with this keyed digest, or the only one whose digest begins so;
    `person` takes responsibility for its pixels.

    Raises ConfigError if there is no such file, there are several, the key is another one, or its reason cannot be
    accepted by a person.
    """
    if not person.strip() or len(person) > _LONGEST_NAME or not person.isprintable():
        raise ConfigError(f"say who accepts: a name of 1 to {_LONGEST_NAME} printable characters")
    original, reason = _quarantined(digest, out_dir)
    data, digest = original.read_bytes(), original.stem
    if key.digest(data) != digest:
        raise ConfigError("the file was quarantined under another key; use the key of that run")
    folder.begin(out_dir, key, policy)
    if reason not in ACCEPTABLE:
        raise ConfigError(f"a file held as {reason} can't be accepted by looking; {', '.join(sorted(ACCEPTABLE))} can")
    vouch = functools.partial(_write_audit, out_dir, person.strip(), reason)
    try:
        outcome = files.publish(original, data, digest, out_dir, key, policy, vouch)
    except FileRejected as held:
        return Outcome(original, QUARANTINED, digest, held.reason)
    original.unlink()
    original.with_suffix(".json").unlink()
    return outcome


def _quarantined(digest: str, out_dir: Path) -> tuple[Path, str]:
    """Returns the quarantined original whose keyed digest begins with these digits, and why it is held."""
    if not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_PREFIX},64}}", digest):
        raise ConfigError(
            f"a file is named by the first {_SHORTEST_PREFIX} hexadecimal digits of its keyed digest or more, as the "
            "report lists them under Input"
        )
    found = sorted((out_dir / "quarantine").glob(f"{digest}*.dcm"))
    if not found:
        raise ConfigError("no quarantined file has a digest that begins so; the report lists them under Input")
    if len(found) > 1:
        raise ConfigError(f"{len(found)} quarantined files have a digest that begins so; give more digits")
    return found[0], str(json.loads(found[0].with_suffix(".json").read_text())["reason"])


def _write_audit(out_dir: Path, person: str, reason: str, outcome: Outcome) -> None:
    """Writes the release to the installation's audit log, then to the folder's own; both before the file is there."""
    audit.append(audit.log_path(), "release", by=person, subject=outcome.input_digest, details={"accepted": reason})
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "person": person, "accepted": reason}
    descriptor = os.open(out_dir / files.AUDIT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(json.dumps(line | outcome.to_dict()) + "\n")
        file.flush()
        os.fsync(descriptor)
