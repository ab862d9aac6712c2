"""A cine MR through everything: dcmtk sends it, the gateway asks the real service, dcmtk receives masks and report."""

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest

from echoplane.tokens import change_tokens, new_token
from tests.gateway_process import acknowledged, gateway, storescu
from tests.serving_process import CHECKOUT, free_port, serve
from tests.tiny_cine import beating_heart, slice_file

pytestmark = pytest.mark.skipif(not shutil.which("storescp"), reason="dcmtk's storescp is not on the PATH")
BUNDLE = CHECKOUT / "models" / "cmr-segmentation"


def test_a_cine_mr_comes_back_as_segmentations_and_a_report(tmp_path: Path) -> None:
    token, entry = new_token("gateway", "lakeside", ("predict",))
    change_tokens(tmp_path / "tokens.json", add=entry)
    (tmp_path / "token").write_text(token)
    cine, archive = tmp_path / "cine", tmp_path / "archive"
    for folder in (cine, archive):
        folder.mkdir()
    pictures, _ = beating_heart(phases=6, slices=4)
    for t, z in np.ndindex(*pictures.shape[:2]):
        patient = {"PatientID": "P1", "PatientName": "Zyxwvut^Quetzalcoatl"}
        slice_file(cine, f"{t}-{z}", 9.0 * z, 40.0 * t, pictures[t, z].astype(np.uint16), **patient)
    port = free_port()
    receiver = subprocess.Popen(["storescp", "-od", str(archive), "-aet", "PACS", str(port)])
    env = {"ECHOPLANE_BUNDLES": str(BUNDLE), "ECHOPLANE_TOKEN_FILE": str(tmp_path / "tokens.json")}
    try:
        with serve(tmp_path, env) as service:
            peer = {"name": "archive", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
            settings = {"service_url": service.url, "token_file": str(tmp_path / "token"), "peers": [peer]}
            with gateway(tmp_path, quiet_s=1, **settings) as running:
                files = sorted(cine.iterdir())
                assert acknowledged(storescu(running.port, files)) == files
                deadline = time.monotonic() + 90
                while len(list(archive.iterdir())) < 3 and time.monotonic() < deadline:
                    time.sleep(0.2)
                assert "Zyxwvut" not in running.log + service.log, running.log
    finally:
        receiver.terminate()
        receiver.wait(timeout=10)
    objects = [pydicom.dcmread(path) for path in archive.iterdir()]
    assert sorted(one.Modality for one in objects) == ["SEG", "SEG", "SR"]
    assert {one.PatientID for one in objects} == {"P1"}
    assert len({one.StudyInstanceUID for one in objects}) == 1
    if shutil.which("dciodvfy"):
        for path in archive.iterdir():
            said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
            assert "Error" not in said.stderr + said.stdout, said.stderr
