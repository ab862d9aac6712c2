"""A device that is invited, by a real enrolment process, and a repository that lets only enrolled devices in (mTLS)."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from echoplane.edge import publish
from echoplane.edge.enrolment import Enrolment, create
from echoplane.edge.upload import receive
from serving.edge.device import Device
from tests.certificates import Authority
from tests.edge_site import TASK, Site, check_here
from tests.serving_process import CHECKOUT, free_port
from tests.tiny_bundle import make_tiny_bundle

BOX = "box-7"


@contextlib.contextmanager
def enrolment_process(folder: Path, tls: tuple[str, str]) -> Iterator[str]:
    """The process as systemd would start it; yields its address."""
    port = free_port()
    settings = {"FOLDER": str(folder), "PORT": str(port), "TLS_CERTIFICATE": tls[0], "TLS_KEY": tls[1]}
    bare = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment = bare | {f"ECHOPLANE_ENROLMENT_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "serving.enrolment"]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment | {"PYTHONPATH": str(CHECKOUT)})
    try:
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        assert process.wait(60) in (0, -signal.SIGTERM)


def wait_for(url: str, authority: Path) -> None:
    context, deadline_s = ssl.create_default_context(cafile=str(authority)), time.monotonic() + 60
    while time.monotonic() < deadline_s:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/livez", verify=context, trust_env=False).is_success:
                return
        time.sleep(0.2)
    raise AssertionError("the enrolment did not start")


def test_an_invited_device_enrols_is_let_in_and_signs_its_report(tmp_path: Path) -> None:
    servers = Authority(tmp_path, "servers")
    tls = servers.issue("edge", "localhost")
    repository_root = tmp_path / "site"
    repository_root.mkdir()
    plain = Site(repository_root)
    bundle = publish.publish(plain.repository, "stable", make_tiny_bundle(tmp_path / "bundle"), "all", []).bundle
    root = (plain.published / "metadata" / "1.root.json").read_bytes()
    create(tmp_path / "enrolment", root, datetime.now(UTC))
    enrolment = Enrolment(tmp_path / "enrolment")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "enrolment" / "ca.crt"))
    context.load_cert_chain(*tls)
    context.verify_mode = ssl.CERT_REQUIRED
    plain.close()
    guarded = Site(plain.folder, context)
    invitation = tmp_path / "invitation"
    invitation.write_text(str(enrolment.invite(BOX, timedelta(hours=1), datetime.now(UTC))))
    common = {"device": "", "root_file": None, "ca_file": servers.path}

    with enrolment_process(tmp_path / "enrolment", tls) as url:
        settings = guarded.settings(BOX, **common, enrolment_url=url, invitation_file=invitation)
        with pytest.raises(Exception, match="root metadata"):
            Device(settings, check_bundle=check_here)  # the enrolment is not up yet
        wait_for(url, servers.path)
        device = Device(settings, check_bundle=check_here)
        report = device.cycle()
    assert (report.device, report.problem, report.tasks[TASK].bundle) == (BOX, "", bundle)
    stored = (guarded.folder / "reports" / f"{BOX}.json").read_bytes()
    assert set(json.loads(stored)) == {"signed", "signature"}
    assert receive(str(guarded.folder / "reports"), enrolment.keys()).reports[0].device == BOX
    again = Device(settings, check_bundle=check_here).cycle()
    assert (again.problem, again.tasks[TASK].bundle) == ("", bundle), "a restart without the enrolment"

    stranger = guarded.settings("box-8", ca_file=servers.path, device="box-8")
    refused = Device(stranger, check_bundle=check_here).cycle()
    assert "out of reach" in refused.problem
    assert not (guarded.folder / "reports" / "box-8.json").exists()
    guarded.close()
