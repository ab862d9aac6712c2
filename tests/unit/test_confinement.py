"""S4: a decoder that a hostile file has taken over reaches no network, no program, no process and no other file.

Each probe runs in a decoder of the service, in place of the reader of files.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from echoplane import confinement
from echoplane.confinement import calls, files
from echoplane.errors import ConfigError
from serving import service

SUPPORTED = pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing()))


def attempts(secret: Path) -> dict[str, Callable[[], object]]:
    """What a decoder that was taken over would do."""
    return {
        "a connection": lambda: socket.create_connection(("127.0.0.1", 9)),
        "a socket of the machine": lambda: socket.socket(socket.AF_UNIX),
        "a listening socket": lambda: socket.create_server(("127.0.0.1", 0)),
        "a name asked of DNS": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 53)),
        "a program": lambda: subprocess.run(["true"], check=False),
        "a program in its place": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
        "a copy of itself": os.fork,
        "a signal to its parent": lambda: os.kill(os.getppid(), 0),
        "the environment of its parent": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "the memory of its parent": lambda: Path(f"/proc/{os.getppid()}/mem").open("rb"),
        "a secret": secret.read_text,
        "the list of a folder": lambda: list(secret.parent.iterdir()),
        "a new file": lambda: (secret.parent / "new").write_text("x"),
        "a changed file": lambda: secret.write_text("x"),
        "a removed file": secret.unlink,
        "a link": lambda: (secret.parent / "link").symlink_to(secret),
    }


def probe(secret: Path) -> None:
    """Runs in a process of its own: confines itself, tries everything, prints what succeeded."""
    confinement.confine()
    succeeded = []
    for name, attempt in attempts(secret).items():
        try:
            attempt()
            succeeded.append(name)
        except PermissionError:
            pass
    worked: list[bool] = []
    thread = threading.Thread(target=worked.append, args=(True,))
    thread.start()
    thread.join()
    print(json.dumps({"succeeded": succeeded, "a thread": worked, "Python": len(Path(os.__file__).read_text()) > 0}))


@SUPPORTED
def test_s4_a_decoder_that_was_taken_over_reaches_nothing(tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_text("key")
    script = f"from pathlib import Path; from tests.unit.test_confinement import probe; probe(Path({str(secret)!r}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {"succeeded": [], "a thread": [True], "Python": True}
    assert secret.read_text() == "key"


@SUPPORTED
def test_s4_workers_that_write_files_reach_no_network_and_start_no_program(tmp_path: Path) -> None:
    script = (
        "import socket, subprocess, sys; from pathlib import Path; from echoplane.confinement import calls\n"
        "calls.forbid_network()\n"
        "for attempt in (socket.socket, lambda: subprocess.run(['true'])):\n"
        "    try: attempt(); print('succeeded')\n"
        "    except PermissionError: pass\n"
        "Path(sys.argv[1]).write_text('x'); print('written')"
    )
    run = [sys.executable, "-c", script, str(tmp_path / "new")]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "written\n"


def test_s4_what_a_machine_cannot_hold_is_said_at_start_and_refused_if_required(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(calls, "is_supported", lambda: False)
    monkeypatch.setattr(files, "is_supported", lambda: False)
    service.check_confinement(required=False)
    assert "decoders may use the network" in caplog.text
    assert "decoders may read all files of this user" in caplog.text
    with pytest.raises(ConfigError, match="ECHOPLANE_REQUIRE_CONFINEMENT is set"):
        service.check_confinement(required=True)
    confinement.confine()  # does nothing, and this test can still write


@SUPPORTED
def test_s4_a_machine_that_holds_all_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    service.check_confinement(required=True)
    assert caplog.text == ""
