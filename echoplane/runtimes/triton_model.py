"""A model as Triton takes it: its name, its configuration and its files. The runtime `triton` sends them to a server;
`serving.triton.repository` writes them as a model repository."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnxruntime as ort

from echoplane.bundle.spec import MODEL
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes.names import Precision

Backend = Literal["tensorrt", "onnxruntime", "openvino", "python"]
"""tensorrt: ONNX Runtime with TensorRT execution at f16; onnxruntime: on the GPU in f32; openvino: on the CPU; python:
ONNX Runtime on the CPU inside Triton's Python backend, for a server without the others."""
BACKENDS: tuple[Backend, ...] = get_args(Backend)
MAX_ROWS = 16
TYPICAL_SIDE = 192
"""Side of the warm-up's picture in pixels if the network leaves it free."""
ENGINE_CACHE = "/tmp/engines"  # noqa: S108 (in the server's container)


@dataclass(frozen=True)
class Deployment:
    """Settings by which a Triton server runs a model."""

    backend: Backend = "tensorrt"
    instances: int = 1
    """Number of copies per GPU, or on the CPU."""
    max_delay_us: int = 2000
    """Maximum time in microseconds that a request waits for others of its shape."""


def precision_on(backend: Backend) -> Precision:
    return "f16" if backend == "tensorrt" else "f32"


def model_name(model: bytes) -> str:
    """Returns the name of a model on the server: the same bytes have the same name."""
    return f"echoplane-{hashlib.sha256(model).hexdigest()[:16]}"


def input_name(model: bytes) -> str:
    return str(_session(model).get_inputs()[0].name)


def config_of(model: bytes, deployment: Deployment) -> dict[str, Any]:
    """Returns Triton's ModelConfig as JSON would hold it. Raises BundleError if the model does not load."""
    session = _session(model)
    entry, *others = session.get_inputs()
    outputs = [one for one in session.get_outputs() if one.name in ("output", "embedding")]
    if others or len(outputs) != 2:
        raise BundleError(f"{MODEL} must have one input and the outputs output and embedding.")
    return {
        "name": model_name(model),
        "backend": "onnxruntime" if deployment.backend == "tensorrt" else deployment.backend,
        "max_batch_size": MAX_ROWS,
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [{"name": entry.name, "data_type": "TYPE_UINT8", "dims": _dims(entry.shape)}],
        "output": [{"name": one.name, "data_type": "TYPE_FP32", "dims": _dims(one.shape)} for one in outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": deployment.max_delay_us},
        "instance_group": [{"kind": _kind(deployment.backend), "count": deployment.instances}],
        "model_warmup": [_warm_up(entry.name, _dims(entry.shape))],
    } | _acceleration(deployment.backend)


def files_of(model: bytes, backend: Backend) -> dict[str, bytes]:
    """Returns the files of the model's folder by their path in it."""
    files = {f"1/{MODEL}": model}
    if backend == "python":
        files["1/model.py"] = Path(__file__).with_name("triton_backend.py").read_bytes()
    return files


def known_backend(name: str) -> Backend:
    """Returns `name` as a backend. Raises ConfigError if it is none."""
    for backend in BACKENDS:
        if name == backend:
            return backend
    raise ConfigError(f"there is no backend {name!r}; expected one of {', '.join(BACKENDS)}.")


def _session(model: bytes) -> ort.InferenceSession:
    """Returns a session that only describes the model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no other common base
        raise BundleError(f"{MODEL} does not load in ONNX Runtime: {str(error).splitlines()[0]}") from error


def _dims(shape: list[int | str | None]) -> list[int]:
    """Returns the axes after the batch; -1 is free."""
    return [axis if isinstance(axis, int) else -1 for axis in shape[1:]]


def _kind(backend: Backend) -> str:
    return "KIND_GPU" if backend in ("tensorrt", "onnxruntime") else "KIND_CPU"


def _warm_up(name: str, dims: list[int]) -> dict[str, Any]:
    """Returns a request of zeros that a server answers before it calls the model ready."""
    sizes = [axis if axis > 0 else TYPICAL_SIDE for axis in dims]
    return {
        "name": "zeros",
        "batch_size": 1,
        "inputs": {name: {"data_type": "TYPE_UINT8", "dims": sizes, "zero_data": True}},
    }


def _acceleration(backend: Backend) -> dict[str, Any]:
    if backend != "tensorrt":
        return {}
    parameters = {
        "precision_mode": "FP16",
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": ENGINE_CACHE,
    }
    accelerator = {"name": "tensorrt", "parameters": parameters}
    return {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}}
