"""Reverberation under the probe stands still and bright like text: it stays, and so does what the picture shows."""

from pathlib import Path

import numpy as np
import pytest

from echoplane.deid import Policy, deidentify_file, load_key
from echoplane.phantom import make_patient, scan_echo, write_clip
from echoplane.study.dicom import read_dicom

KEY = bytes(range(7, 39)).hex()
MAX_BLACKENED = 0.005
"""Of a clean sector's lit pixels."""


@pytest.mark.parametrize("view", ["a4c", "a5c", "a2c", "a3c"])
def test_the_tip_of_a_clean_apical_sector_is_not_taken_for_text(tmp_path: Path, view: str) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    patient = make_patient(1)
    clip = scan_echo(patient, view, 1, frames=12, style="osprey")
    write_clip(clip, patient, tmp_path / "in.dcm")
    outcome = deidentify_file(tmp_path / "in.dcm", tmp_path / "out", load_key(key_file), Policy())
    assert outcome.status == "written"
    written = tmp_path / "out" / str(outcome.output)
    before, after = (read_dicom(path).only.frames.grey([0])[0] for path in (tmp_path / "in.dcm", written))
    rows = np.flatnonzero(clip.sector_mask.any(axis=1))
    tip = clip.sector_mask & (np.arange(len(before))[:, None] < rows[0] + 0.25 * np.ptp(rows))
    lit = tip & (before > 40)
    assert (after[lit] < 10).mean() <= MAX_BLACKENED
