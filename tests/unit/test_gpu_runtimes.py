"""The runtime tensorrt with doubles of TensorRT and CUDA, and what it says on a machine that lacks either."""

import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from echoplane import runtimes
from echoplane.bundle import Bundle, read
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes import InferenceSettings, cuda, tensorrt, triton, triton_model
from serving.api.models.slots import Slot
from serving.api.models.sources import FolderSource
from serving.service import runtime_order
from serving.triton.repository import config_text
from tests.gpu_double import Gpu
from tests.tiny_bundle import TASK, make_tiny_bundle

ON_GPU = InferenceSettings(runtime="tensorrt")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read(make_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(autouse=True)
def _forget_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tensorrt.CACHE, str(tmp_path / "engines"))
    cuda._runtime.cache_clear()
    yield
    cuda._runtime.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    found = Gpu()
    found.install(monkeypatch)
    return found


def engines(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "engines").iterdir())


def test_a_batch_is_divided_and_comes_back_as_the_reference_gives_it(bundle: Bundle, gpu: Gpu) -> None:
    opened = runtimes.open(bundle, ON_GPU).runtime
    clips = np.random.default_rng(1).integers(0, 256, (19, 16, 64, 64), dtype=np.uint8)
    reference = runtimes.open(bundle, InferenceSettings(runtime="onnxruntime")).runtime.run(clips)
    gpu.rows.clear()
    outputs = opened.run(clips)
    assert gpu.rows == [16, 3]
    assert np.abs(outputs.output - reference.output).max() < 1e-4
    assert np.abs(outputs.embedding - reference.embedding).max() < 1e-4
    assert (opened.settings.precision, opened.settings.device) == ("f16", "gpu")
    opened.close()
    opened.close()
    assert gpu.alive == {}, "all memory was given back"
    with pytest.raises(BundleError, match="was closed"):
        opened.run(clips)


def test_an_engine_is_built_once_for_a_model_gpu_version_and_precision(
    bundle: Bundle, gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        runtimes.open(bundle, ON_GPU).runtime.close()
    assert gpu.builds == 1
    runtimes.open(bundle, ON_GPU.overridden(precision="f32")).runtime.close()
    assert gpu.flags == ["FP16", "no TF32"]
    gpu.install(monkeypatch, version="10.16.2")
    runtimes.open(bundle, ON_GPU).runtime.close()
    gpu.install(monkeypatch, name="Orin")
    cuda._runtime.cache_clear()
    runtimes.open(bundle, ON_GPU).runtime.close()
    assert gpu.builds == 4
    digest = bundle.spec.files["model.onnx"][:32]
    assert engines(tmp_path) == sorted(
        f"{digest}-{name}.engine"
        for name in (
            "nvidia-double-1-trt10.3.0-f16",
            "nvidia-double-1-trt10.3.0-f32",
            "nvidia-double-1-trt10.16.2-f16",
            "orin-trt10.3.0-f16",
        )
    )


def test_a_damaged_engine_is_built_again(bundle: Bundle, gpu: Gpu, tmp_path: Path) -> None:
    runtimes.open(bundle, ON_GPU).runtime.close()
    (tmp_path / "engines" / engines(tmp_path)[0]).write_bytes(b"x")
    runtimes.open(bundle, ON_GPU).runtime.close()
    assert gpu.builds == 2


def test_an_engine_folder_that_others_may_write_is_refused(bundle: Bundle, gpu: Gpu, tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines").chmod(0o777)
    with pytest.raises(ConfigError, match="writable by nobody else"):
        runtimes.open(bundle, ON_GPU)


def test_a_gpu_that_computes_other_numbers_is_refused_and_the_next_runtime_answers(bundle: Bundle, gpu: Gpu) -> None:
    gpu.scale = 1.1
    with pytest.raises(BundleError, match="golden output: tensorrt at f16 is off by"):
        runtimes.open(bundle, ON_GPU)
    opened = runtimes.open_in_order(bundle, InferenceSettings(), ("tensorrt", "openvino"))
    assert opened.runtime.settings.runtime == "openvino"
    assert opened.fallback.startswith("tensorrt: golden output")
    assert gpu.alive == {}


def test_labels_that_differ_within_the_tolerance_are_refused(
    bundle: Bundle, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echoplane.runtimes import runtime

    gpu.scale = -1
    monkeypatch.setattr(runtime, "GOLDEN_TOLERANCE", {"f16": 10.0})
    with pytest.raises(BundleError, match=r"golden labels: tensorrt gives 0\.00% of them"):
        runtimes.open(bundle, ON_GPU)


def test_without_tensorrt_one_sentence_says_what_is_missing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ConfigError, match=r"^the package tensorrt is missing, [^.]*; use another runtime\.$"):
        runtimes.open(bundle, ON_GPU)


def test_without_a_gpu_one_sentence_says_so(bundle: Bundle, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.modules["cuda.bindings.runtime"].cudaGetDeviceCount = lambda: (35, None)
    with pytest.raises(ConfigError, match=r"^this machine has no NVIDIA GPU [^.]*\.$"):
        runtimes.open(bundle, ON_GPU)


def test_a_slot_says_why_its_preferred_runtime_does_not_answer(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.api.http.schemas import slot_body

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    slot = Slot(TASK, FolderSource(bundle.folder), {"order": runtime_order("tensorrt, onnxruntime")})
    slot.refresh()
    body = slot_body(slot)
    assert (body.ready, body.model.runtime, body.problem) == (True, "onnxruntime", None)
    assert body.fallback.startswith("tensorrt: the package tensorrt is missing")
    slot.close()
    with pytest.raises(ConfigError, match="ECHOPLANE_RUNTIME_ORDER: expected some of openvino"):
        runtime_order("tensorrt,onxruntime")


def test_the_configuration_of_a_gpu_server_is_what_tritons_own_definition_knows(bundle: Bundle) -> None:
    model = runtimes.onnx_model(bundle)
    text = config_text(model, triton_model.Deployment("tensorrt", instances=2, max_delay_us=500))
    config = text_format.Parse(text, ModelConfig())
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 16)
    assert [(one.name, list(one.dims)) for one in config.input] == [("input", [16, 64, 64])]
    assert {one.name: list(one.dims) for one in config.output} == {"output": [12], "embedding": [8]}
    (group,) = config.instance_group
    assert (group.KIND_GPU, group.count) == (group.kind, 2)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, accelerator.parameters["precision_mode"]) == ("tensorrt", "FP16")
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert config.model_warmup[0].inputs["input"].zero_data
    for backend in triton_model.BACKENDS:
        assert config_text(model, triton_model.Deployment(backend)).startswith("name:")


def test_a_precision_that_the_servers_backend_lacks_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(triton.BACKEND, "python")
    with pytest.raises(ConfigError, match="runs in f32"):
        runtimes.open(bundle, InferenceSettings(runtime="triton", precision="f16"))
    monkeypatch.setenv(triton.BACKEND, "pyton")
    with pytest.raises(ConfigError, match="expected one of tensorrt, onnxruntime, openvino, python"):
        runtimes.open(bundle, InferenceSettings(runtime="triton"))
