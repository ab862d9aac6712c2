"""Pipeline batch-inference through kfp.local: parts side by side, one bad study, what the last step says."""

import json
import subprocess
import sys
from pathlib import Path

from pipelines.local import manifests
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_cohort import write_cohort


def test_e13_every_study_of_a_folder_gets_a_row_though_paths_hold_spaces(tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", patients=2, views=2)
    (tmp_path / "in/dicom/bad.dcm").write_bytes(b"no image")
    bundle = make_tiny_bundle(tmp_path / "bundle")
    root = tmp_path / "the work"
    environment = tmp_path / "an environment"
    environment.symlink_to(sys.prefix)
    command = [str(environment / "bin/python"), "-m", "pipelines", "run", "batch-inference", "--root", str(root)]
    command += ["--part-size", "3"]
    command += ["--source", str(tmp_path / "in/dicom"), "--model", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    made = manifests(root)["batch"]
    assert (made.counts["studies"], made.counts["refused"]) == (5, 1)
    rows = {row["study"] for row in json.loads((made.path / "results.json").read_text())["studies"]}
    assert len(rows) == 5
    (page,) = root.glob("kfp/*/ended/report")
    assert ": succeeded" in page.read_text()
    assert page.read_text().count("| `batch_part` |") == 2
    (table,) = root.glob("kfp/*/batch-results/table")
    assert len(table.read_text().splitlines()) == 6
    assert ".dcm" not in table.read_text(), "S17: names of files stay on the volume"


def test_a_run_without_a_model_ends_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    command = [sys.executable, "-m", "pipelines", "run", "batch-inference", "--root", str(tmp_path / "work")]
    command += ["--source", str(tmp_path / "in"), "--model", "/none/bundle"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("batch-inference: batch_plan: ")
    (page,) = (tmp_path / "work").glob("kfp/*/ended/report")
    assert "**`batch_plan`**" in page.read_text()
