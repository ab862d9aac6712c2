"""The runtime `triton` and the model repository with a real Triton server on the CPU (its Python backend)."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc

from echoplane import runtimes
from echoplane.adapters.local_mlflow import free_port
from echoplane.bundle import Bundle, read
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes import InferenceSettings, onnx_model, triton, triton_model
from serving.triton.repository import main as write_repository
from tests.tiny_bundle import make_tiny_bundle
from tests.triton_server import INSTALLED, TritonServer

pytestmark = pytest.mark.skipif(not INSTALLED, reason="there is no Triton server; `make setup-triton` installs one")
ON_SERVER = InferenceSettings(runtime="triton")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read(make_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TritonServer]:
    found = TritonServer(tmp_path, free_port())
    monkeypatch.setenv(triton.URL, found.url)
    monkeypatch.setenv(triton.BACKEND, "python")
    found.start()
    yield found
    found.kill()


def clips(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 256, (rows, 16, 64, 64), dtype=np.uint8)


class Load:
    """Threads that send requests until the block ends, and count answers that are wrong and requests that failed."""

    def __init__(self, model: runtimes.OpenModel, expected: np.ndarray, batch: np.ndarray) -> None:
        self.answers, self.wrong, self.failed = 0, 0, []
        self._model, self._expected, self._batch = model, expected, batch
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(3)]

    def _send(self) -> None:
        while not self._stop.is_set():
            try:
                output = self._model.runtime.run(self._batch).output
            except Exception as error:
                self.failed.append(str(error))
            else:
                self.answers += 1
                self.wrong += not np.allclose(output, self._expected, atol=1e-4)

    def __enter__(self) -> "Load":
        [thread.start() for thread in self._threads]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        [thread.join() for thread in self._threads]


def until(load: Load, more: int, limit_s: float) -> float:
    """Seconds until `more` further answers have come."""
    start_s, goal = time.monotonic(), load.answers + more
    while load.answers < goal:
        assert time.monotonic() - start_s < limit_s, load.failed
        time.sleep(0.02)
    return time.monotonic() - start_s


def test_outputs_and_labels_equal_those_in_process(bundle: Bundle, server: TritonServer) -> None:
    opened = runtimes.open(bundle, ON_SERVER)
    reference = runtimes.open(bundle, InferenceSettings(runtime="onnxruntime")).runtime
    batch = clips(37)
    found, expected = opened.runtime.run(batch), reference.run(batch)
    assert np.abs(found.output - expected.output).max() < 1e-4
    assert np.abs(found.embedding - expected.embedding).max() < 1e-4
    assert np.array_equal(found.output.argmax(axis=1), expected.output.argmax(axis=1))
    assert (opened.runtime.settings.device, opened.runtime.settings.precision) == ("server", "f32")
    with pytest.raises(BundleError, match="takes no batch of shape"):
        opened.runtime.run(clips(2)[:, :8])
    opened.runtime.close()
    name = triton_model.model_name(onnx_model(bundle))
    deadline = time.monotonic() + 10
    while grpc.InferenceServerClient(server.url).is_model_ready(name):
        assert time.monotonic() < deadline, "the model is still loaded"
        time.sleep(0.05)


def test_killed_stub_killed_server_and_reloads_give_no_wrong_answer_and_heal(
    bundle: Bundle, server: TritonServer
) -> None:
    opened, batch = runtimes.open(bundle, ON_SERVER), clips(2)
    expected = opened.runtime.run(batch).output
    name = triton_model.model_name(onnx_model(bundle))
    with Load(opened, expected, batch) as load:
        until(load, 20, 10)
        assert server.kill_stubs() == 1
        assert until(load, 20, 10) < 10
        server.kill()
        server.start()
        assert until(load, 20, 10) < 10
        for _ in range(3):
            opened.runtime._load()
            until(load, 5, 10)
        grpc.InferenceServerClient(server.url).unload_model(name)
        assert until(load, 20, 10) < 10
    assert (load.wrong, load.failed) == (0, [])


def test_a_server_of_a_generated_repository_answers_as_in_process(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = TritonServer(tmp_path, free_port(), control="none")
    assert write_repository([str(server.repository), str(bundle.folder), "--backend", "python"]) == 0
    name, entry = triton_model.model_name(onnx_model(bundle)), triton_model.input_name(onnx_model(bundle))
    assert name in capsys.readouterr().out
    server.start()
    client, batch = grpc.InferenceServerClient(server.url), clips(3)
    tensor = grpc.InferInput(entry, list(batch.shape), "UINT8")
    tensor.set_data_from_numpy(batch)
    output = client.infer(name, [tensor]).as_numpy("output")
    config = client.get_model_config(name).config
    server.kill()
    reference = runtimes.open(bundle, InferenceSettings(runtime="onnxruntime")).runtime.run(batch).output
    assert np.abs(output - reference).max() < 1e-4
    assert (config.max_batch_size, config.model_warmup[0].name) == (16, "zeros")


def test_a_model_that_the_server_refuses_is_a_reason(
    bundle: Bundle, server: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(triton.BACKEND, "onnxruntime")
    with pytest.raises(BundleError, match="the Triton server refuses the model"):
        runtimes.open(bundle, ON_SERVER)
    opened = runtimes.open_in_order(bundle, InferenceSettings(), ("triton", "openvino"))
    assert opened.runtime.settings.runtime == "openvino"
    assert opened.fallback.startswith("triton: the Triton server refuses")


def test_without_a_server_one_sentence_says_so(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(triton.URL, f"127.0.0.1:{free_port()}")
    with pytest.raises(ConfigError, match="no Triton server answers"):
        runtimes.open(bundle, ON_SERVER)
