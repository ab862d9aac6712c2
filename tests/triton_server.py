"""A real Triton server on this machine's CPU: the one inside the package nvidia-pytriton, in an environment of its own
(`make setup-triton`). It has the Python backend alone."""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import tritonclient.grpc as grpc

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / "build" / "triton"
PACKAGES = ENVIRONMENT / "lib" / "python3.10" / "site-packages"
INSTALLED = (ENVIRONMENT / ".complete").exists()
START_S = 60


class TritonServer:
    """A server on `port`, with its log, its backend and its model repository below `folder`."""

    def __init__(self, folder: Path, port: int, control: str = "explicit") -> None:
        self.folder, self.port, self.control = folder, port, control
        self.repository, self._shared = folder / "repository", f"echoplane-test-{port}-"
        self.repository.mkdir(exist_ok=True)
        shutil.copytree(PACKAGES / "pytriton/tritonserver/backends", folder / "backends", dirs_exist_ok=True)
        stub = PACKAGES / "pytriton/tritonserver/python_backend_stubs/3.10/triton_python_backend_stub"
        shutil.copy(stub, folder / "backends" / "python")

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        python = Path(os.path.realpath(ENVIRONMENT / "bin" / "python"))
        environment = {
            "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(PACKAGES),
            # A stub that was copied finds the libraries beside the package no longer by itself.
            "LD_LIBRARY_PATH": f"{PACKAGES / 'nvidia_pytriton.libs'}:{python.parents[1] / 'lib'}",
        }
        command = [PACKAGES / "pytriton/tritonserver/bin/tritonserver", f"--model-repository={self.repository}"]
        options = [f"--backend-directory={self.folder / 'backends'}", f"--model-control-mode={self.control}"]
        options.append(f"--backend-config=python,shm-region-prefix-name={self._shared}")
        network = [
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.port}",
            "--allow-http=false",
            "--allow-metrics=false",
        ]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *options, *network], env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with suppress(grpc.InferenceServerException):
                if grpc.InferenceServerClient(self.url).is_server_ready():
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text()[-3000:])

    def kill_stubs(self) -> int:
        """Kills the processes that compute, and returns their number."""
        stubs = [one for one in psutil.Process(self.process.pid).children(recursive=True) if "stub" in one.name()]
        for stub in stubs:
            stub.kill()
        return len(stubs)

    def kill(self) -> None:
        """Kills the server as a power cut does, with what it started."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()
        self.process.kill()
        self.process.wait()
        for left in Path("/dev/shm").glob(f"{self._shared}*"):
            left.unlink()
