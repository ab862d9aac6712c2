"""A Triton server runs the model; this process prepares studies and interprets outputs.

The model is sent to the server when it is loaded, and unloaded when it is closed; the server runs with
`--model-control-mode=explicit`. A server that calls a model ready may still fail every request (a killed stub of a
backend), so a failed inference is what counts: the model is unloaded, loaded and asked again, for HEAL_S.
ECHOPLANE_TRITON_URL is the server's gRPC address, ECHOPLANE_TRITON_BACKEND one of `triton_model.BACKENDS`.
"""

import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes import triton_model
from echoplane.runtimes.names import InferenceSettings
from echoplane.runtimes.runtime import Outputs

log = logging.getLogger("echoplane.runtimes")

URL, BACKEND = "ECHOPLANE_TRITON_URL", "ECHOPLANE_TRITON_BACKEND"
NAMES = ("output", "embedding")
HEAL_S = 30.0
"""Maximum time in seconds for which a request that the server failed is tried again."""
LOOK_S = 0.05
LOAD_S, INFER_S = 900.0, 60.0
"""Maximum time in seconds of a load, which may build an engine, and of one inference."""
CHANNEL = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
]
"""gRPC by itself would look for a restarted server only every 2 minutes."""
CALLERS_FAULT = ("StatusCode.INVALID_ARGUMENT",)


class Triton:
    """A model on a server. Requests may run at once, each on a connection of its own."""

    def __init__(self, server: "Server", model: bytes, deployment: triton_model.Deployment) -> None:
        self.settings = InferenceSettings()
        self._server, self._name = server, triton_model.model_name(model)
        self._config = json.dumps(triton_model.config_of(model, deployment))
        self._input = triton_model.input_name(model)
        self._files = triton_model.files_of(model, deployment.backend)
        self._healing, self._loads, self._closed = threading.Lock(), 0, False
        self._load()

    def run(self, batch: np.ndarray) -> Outputs:
        rows = triton_model.MAX_ROWS
        parts = [self._answered(batch[start : start + rows]) for start in range(0, len(batch), rows)]
        return Outputs(*(np.concatenate([part[at] for part in parts]) for at in range(len(NAMES))))

    def close(self) -> None:
        with self._healing:
            if not self._closed:
                self._closed = True
                with contextlib.suppress(self._server.Failure), self._server.client() as client:
                    client.unload_model(self._name)
                self._server.close()

    def _answered(self, part: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs for one request. Raises BundleError if the server fails it for longer than HEAL_S."""
        deadline_s = time.monotonic() + HEAL_S
        while True:
            loads = self._loads
            if self._closed:
                raise BundleError("the model was closed; load it again.")
            try:
                return self._asked(part)
            except self._server.Failure as error:
                if str(error.status()) in CALLERS_FAULT:
                    raise BundleError(f"Triton takes no batch of shape {part.shape}: {error.message()}") from None
                log.warning(
                    "Triton failed a request of %s (%s); the model is loaded again.", self._name, error.status()
                )
            if time.monotonic() > deadline_s:
                raise BundleError(f"the Triton server has failed this model for {HEAL_S:g} s.") from None
            self._heal(loads, deadline_s)

    def _asked(self, part: np.ndarray) -> list[np.ndarray]:
        grpc = self._server.grpc
        entry = grpc.InferInput(self._input, list(part.shape), "UINT8")
        entry.set_data_from_numpy(np.ascontiguousarray(part))
        wanted = [grpc.InferRequestedOutput(name) for name in NAMES]
        with self._server.client() as client:
            result = client.infer(self._name, [entry], outputs=wanted, client_timeout=INFER_S)
        return [np.array(result.as_numpy(name)) for name in NAMES]

    def _heal(self, loads: int, deadline_s: float) -> None:
        """Unloads and loads the model, unless another request has done so since `loads`."""
        with self._healing:
            if self._loads != loads or self._closed:
                return
            with contextlib.suppress(self._server.Failure):
                self._wait(lambda client: bool(client.is_server_ready()), deadline_s)
                with self._server.client() as client:
                    client.unload_model(self._name)
                self._wait(lambda client: not client.is_model_ready(self._name), deadline_s)
            with contextlib.suppress(self._server.Failure):
                self._load()

    def _load(self) -> None:
        files = {f"file:{path}": content for path, content in self._files.items()}
        with self._server.client() as client:
            client.load_model(self._name, config=self._config, files=files, client_timeout=LOAD_S)
        self._loads += 1

    def _wait(self, ready: Callable[[Any], bool], deadline_s: float) -> None:
        while time.monotonic() < deadline_s:
            with contextlib.suppress(self._server.Failure), self._server.client() as client:
                if ready(client):
                    return
            time.sleep(LOOK_S)


class Server:
    """Connections to one server, which are reused; a client of tritonclient serves one thread at a time."""

    def __init__(self, url: str) -> None:
        try:
            import tritonclient.grpc as grpc
        except ImportError:
            raise ConfigError("the package tritonclient[grpc] is missing; install requirements/triton.txt.") from None
        self.grpc, self.Failure, self._url = grpc, grpc.InferenceServerException, url
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        try:
            client = self._idle.get_nowait()
        except queue.Empty:
            client = self.grpc.InferenceServerClient(self._url, channel_args=CHANNEL)
        try:
            yield client
        finally:
            self._idle.put(client)

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait().close()


def load(model: bytes, settings: InferenceSettings) -> Triton:
    """Loads `model` on the server. Raises ConfigError if there is none, and BundleError if it refuses the model."""
    backend = triton_model.known_backend(os.environ.get(BACKEND, "tensorrt"))
    precision = triton_model.precision_on(backend)
    if settings.precision not in ("auto", precision):
        raise ConfigError(f"Triton's backend {backend} runs in {precision}; ask for it or for auto.")
    server = Server(os.environ.get(URL, "127.0.0.1:8001"))
    try:
        runtime = Triton(server, model, triton_model.Deployment(backend))
    except server.Failure as error:
        if "UNAVAILABLE" in str(error.status()):
            raise ConfigError(f"no Triton server answers at {URL}; start one, or use another runtime.") from None
        raise BundleError(f"the Triton server refuses the model: {str(error.message()).splitlines()[0]}") from None
    runtime.settings = settings.model_copy(update={"precision": precision, "device": "server"})
    return runtime
