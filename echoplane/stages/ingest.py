"""Stage `ingest`: copies the user's own cine MR to where later stages look for it."""

import shutil
from pathlib import Path

from echoplane.dataset.studies import studies_in
from echoplane.errors import ConfigError
from echoplane.files import digest_of
from echoplane.stages.outputs import StageResult, Studies
from echoplane.stages.stage import Manifest, StageConfig, file_digests, run_stage

STUDIES = "studies"
"""Subfolder of the stage's folder with the folders of cine MR, apart from its manifest."""


class Config(StageConfig):
    source: str
    """Folder of cine MR, with one folder per study."""


def run(config: Config) -> Manifest:
    """Copies the studies to `ROOT/ingest`; unchanged content is copied only once."""
    source = Path(config.source)
    if not source.is_dir():
        raise ConfigError("`source` is no folder; give the one that holds one folder per study.")

    def copy(folder: Path) -> StageResult:
        shutil.copytree(source, folder / STUDIES, dirs_exist_ok=True)
        count = len(studies_in(folder / STUDIES, "folder"))
        output = Studies(unit="folder", count=count, identity="unknown")
        return StageResult(counts={"patients": 0, "cines": 0, "studies": count}, output=output)

    return run_stage("ingest", config, copy, extra_cache_key=digest_of(file_digests(source)))
