"""The user's own cine MR is copied under a name of its own, and proves nothing about its patients."""

import json
from pathlib import Path

import pytest

from echoplane.errors import ConfigError
from echoplane.stages import dataset, ingest, phantom
from echoplane.stages.outputs import Studies
from echoplane.stages.stage import Manifest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "mine" / "heart").mkdir(parents=True)
    (tmp_path / "mine" / "heart" / "sa.nii.gz").write_bytes(b"a cine")
    return tmp_path / "mine"


def test_own_cine_mr_is_ingested_not_a_phantom(tmp_path: Path, source: Path) -> None:
    root = tmp_path / "root"
    made = phantom.run(phantom.Config(root=str(root), kind="cmr", source=str(source)))
    assert (made.stage, made.path.parent) == ("ingest", root / "ingest")
    assert (made.path / "studies" / "heart" / "sa.nii.gz").read_bytes() == b"a cine"
    assert made.stated(Studies) == Studies(unit="folder", count=1, identity="unknown")
    assert ingest.run(ingest.Config(root=str(root), source=str(source))) == made


@pytest.mark.parametrize("stage", ["ingest", "phantom"])
def test_ingested_studies_need_a_publisher_also_under_their_former_name(
    tmp_path: Path, source: Path, stage: str
) -> None:
    made = ingest.run(ingest.Config(root=str(tmp_path / "root"), source=str(source)))
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(made.model_dump(mode="json") | {"stage": stage}))
    assert Manifest.read(manifest).stage == stage
    with pytest.raises(ConfigError, match="name in `public` who published"):
        dataset.run(dataset.Config(root=str(tmp_path / "root"), task="cmr-segmentation", studies=str(manifest)))


def test_a_source_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one folder per study"):
        ingest.run(ingest.Config(root=str(tmp_path), source=str(tmp_path / "nowhere")))
