"""Stage `deid`: removes patient identity from DICOM and joins the view labels to the new instances.

The input is either the output of the phantom stage or the user's own folder (`source`). Quarantine still holds patient
data: it is kept separately, under `ROOT/quarantine` (mode 0700), outside the stage's folder, digest and manifest, so
that no later step and no artifact can contain it. The key never enters a config, a manifest or a log; a one-way
fingerprint of it joins the stage's cache key, so another key means other pseudonyms and a separate result.
"""

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from echoplane.deid.files import AUDIT
from echoplane.deid.folder import RUN, UNLISTED, input_folder
from echoplane.deid.policy import Policy
from echoplane.errors import ConfigError
from echoplane.files import digest_of, file_sha256, write_atomically
from echoplane.stages.labels import Labels, read_labels, with_feedback, write_labels
from echoplane.stages.outputs import StageResult, Studies
from echoplane.stages.phantom import DICOM
from echoplane.stages.progress import printed
from echoplane.stages.stage import (
    From,
    Manifest,
    StageConfig,
    ensure_folder,
    file_digests,
    run_stage,
    stage_key,
)
from echoplane.stages.workers import default_workers

KEY_VARIABLE = "ECHOPLANE_DEID_KEY"
PHANTOM_KEY = b"echoplane phantoms: invented patients, no secret"
"""Key for synthetic patients, never used for `source`: anyone who knows a key can find a patient by trying every id."""
OWN_NAMES = {
    "dicom",
    "quarantine",
    UNLISTED,
    "ledger",
    RUN,
    "report.json",
    "report.html",
    "labels.csv",
    "manifest.json",
    AUDIT,
}


class Config(StageConfig):
    excluded_from_cache_key: ClassVar[frozenset[str]] = frozenset(
        {"root", "source", "labels", "feedback", "key_file", "workers"}
    )

    studies: Annotated[str, From(("phantom",))] = ""
    """Manifest of the phantom stage. Omit it, or give one without studies, if `source` is given."""
    source: str = ""
    """Input folder of DICOM files, read with all its subfolders."""
    labels: str = ""
    """CSV file with the columns file (relative to `source`) and one label: view, or a measured number under its own
    name, such as lvef_percent. If omitted, ViewCodeSequence gives the views."""
    feedback: str = ""
    """Folder or s3:// address with the feedback of a service. It labels copies of the gateway, whose names hold the ids
    of their requests, unless `labels` does."""
    key_file: str = ""
    """File with the pseudonym key: one line of 64 hexadecimal digits or more, or a pass phrase of 32 characters or
    more. If omitted, the variable ECHOPLANE_DEID_KEY."""
    policy: Policy = Policy()
    """Policy: what is kept, removed and refused."""
    workers: int = Field(default_factory=default_workers, ge=1)
    """Processes that de-identify in parallel."""


def run(config: Config) -> Manifest:
    """Writes de-identified studies under `ROOT/deid`; files that could not be cleared are kept under
    `ROOT/quarantine`."""
    source, labels, key = _inputs(config)
    apart = Path(config.root).resolve() / "quarantine"

    def work(folder: Path) -> StageResult:
        result = _deidentify(config, source, folder, key, labels)
        _move_apart(folder / "quarantine", apart / folder.name.removesuffix(".partial"))
        return result

    return run_stage("deid", config, work, extra_cache_key=_extra_key(config, key, labels))


def into(folder: Path, config: Config) -> Manifest:
    """De-identifies directly into `folder`, with quarantine/ and manifest.json in it: for interactive use, not
    pipelines.

    Repeating an interrupted call resumes it. A folder that holds anything else, or was made with another policy or key,
    is refused.
    """
    # hidden names are left by a kill while a file was being written
    if folder.is_dir() and not {path.name for path in folder.glob("[!.]*")} <= OWN_NAMES:
        raise ConfigError("DST holds files that are not of an earlier call; give a new folder.")
    source, labels, key = _inputs(config)
    ensure_folder(folder, "DST")
    start = time.monotonic()
    result = _deidentify(config, source, folder, key, labels)
    apart = ("quarantine", UNLISTED)
    manifest = Manifest(
        stage="deid",
        key=stage_key("deid", config, _extra_key(config, key, labels)),
        digest=digest_of(file_digests(folder, apart)),
        folder=str(folder.resolve()),
        counts=result.counts,
        output=result.output,
        set_aside=result.set_aside,
        apart=apart,
        duration_s=round(time.monotonic() - start, 2),
    )
    manifest.write(folder / "manifest.json")
    return manifest


def _inputs(config: Config) -> tuple[Path, Labels, Any]:
    """Returns the folder to read, the labels by file, and the key."""
    from echoplane.deid import load_key

    source = _source(config)
    labels = read_labels(Path(config.labels), source) if config.labels else Labels()
    if config.feedback:
        labels = with_feedback(labels, config.feedback, source)
    return source, labels, load_key(_key_file(config))


def _source(config: Config) -> Path:
    """Returns the user's folder or that of the phantom stage. Raises ConfigError if both or neither are given."""
    upstream = _phantoms(config)
    if (upstream is not None) == bool(config.source):
        raise ConfigError("give either the phantom stage's studies or `source`, the folder of your own DICOM.")
    if upstream:
        return config.input("studies").path / DICOM
    return input_folder(Path(config.source))


def _phantoms(config: Config) -> Studies | None:
    """Returns the output of the phantom stage; None if it is empty or not given. Raises ConfigError if it is not
    DICOM."""
    studies = config.input("studies").stated(Studies) if config.studies else None
    if studies and studies.unit != "file":
        raise ConfigError("`studies` are folders of cine MR, which hold no DICOM of patients; `dataset` reads them.")
    return studies if studies and studies.count else None


def _key_file(config: Config) -> Path | None:
    """Returns the key's file; None if the environment has the key. Only synthetic patients need none: theirs is written
    here."""
    if config.key_file:
        return Path(config.key_file)
    if os.environ.get(KEY_VARIABLE):
        return None
    if config.source:
        raise ConfigError(
            "patients' pseudonyms need a key. Make one, once, and keep it secret: "
            f"`(umask 077; openssl rand -hex 32 > deid.key)`; give it as key_file, or in {KEY_VARIABLE}."
        )
    return _phantom_key(Path(config.root) / "phantom-deid.key")


def _phantom_key(path: Path) -> Path:
    """Writes the key for synthetic patients. It is the same everywhere, so that the same patients get the same
    split."""
    write_atomically(path, f"{hashlib.sha256(PHANTOM_KEY).hexdigest()}\n".encode(), mode=0o600)
    return path


def _extra_key(config: Config, key: Any, labels: Labels) -> str:
    """Returns the part of the cache key that the config cannot hold: state of the source folder, labels, and the key's
    fingerprint."""
    state = _folder_state(Path(config.source)) if config.source else []
    return digest_of([state, labels.model_dump(), key.fingerprint()])


def _folder_state(folder: Path) -> list[list[Any]]:
    """Returns relative path, size and time of every file, which shows a change without reading gigabytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _deidentify(config: Config, source: Path, folder: Path, key: Any, labels: Labels) -> StageResult:
    from echoplane.deid import deidentify_folder

    report = deidentify_folder(source, folder, key, _policy(config), workers=config.workers, progress=printed("deid"))
    if config.labels or config.feedback:
        new_uids = {outcome.source.as_posix(): outcome.new_sop_uid for outcome in report.outcomes}
        write_labels(folder / "labels.csv", labels, {file: uid for file, uid in new_uids.items() if uid})
    unlisted = sum(path.is_file() for path in (folder / UNLISTED).rglob("*"))
    found = report.counts
    claims = {"clean pixels": report.claims}
    output = Studies(
        unit="file",
        count=found["written"],
        identity="removed",
        report_sha256=file_sha256(folder / "report.json"),
        quarantined=found["quarantined"],
        refused=found["refused"],
    )
    return StageResult(
        counts=found | ({UNLISTED: unlisted} if unlisted else {}) | claims,
        output=output,
        set_aside=output.quarantined + output.refused,
    )


def _policy(config: Config) -> Policy:
    """Returns the policy extended by the synthetic scanners' names, which no list of real ones holds and subgroup
    tables show."""
    phantoms = _phantoms(config)
    words = phantoms.device_words if phantoms else ()
    return config.policy.model_copy(update={"extra_words": (*config.policy.extra_words, *words)})


def _move_apart(quarantine: Path, apart: Path) -> None:
    apart.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    apart.parent.chmod(0o700)
    shutil.rmtree(apart, ignore_errors=True)
    if quarantine.exists():
        quarantine.replace(apart)
        apart.chmod(0o700)
