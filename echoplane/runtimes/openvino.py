"""OpenVINO on the CPU. Precision, threads and streams are always set: by default OpenVINO would use bf16 on processors
that support it, and another number of threads may add in another order."""

import threading

import numpy as np
import openvino as ov

from echoplane.bundle.spec import MODEL
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes.names import InferenceSettings, Precision
from echoplane.runtimes.runtime import Outputs

_ELEMENT = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


ROWS_A_STREAM = 2
"""Minimum number of rows per thread from which each thread works on its own rows: threads that share every layer of an
image wait for each other between layers."""


class OpenVino:
    """A model behind a lock: only one `run` at a time writes the output memory.

    A small batch is one request, in which all threads share each layer. A large batch is divided into one request per
    thread; for these the model is compiled again at their first use.
    """

    def __init__(self, model: ov.Model, core: ov.Core, settings: InferenceSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._divided: list[ov.InferRequest] = []
        self._model, self._core = model, core
        self.compiled = self._compile(1)
        self._request: ov.InferRequest | None = self.compiled.create_infer_request()

    def run(self, batch: np.ndarray) -> Outputs:
        with self._lock:
            if self._request is None:
                raise BundleError("the model was closed; load it again.")
            requests = [self._request]
            threads = self.settings.threads
            if threads > 1 and len(batch) >= ROWS_A_STREAM * threads:
                requests = self._divided = self._divided or self._streams()
            for request, part in zip(requests, np.array_split(batch, len(requests)), strict=True):
                request.start_async({0: part}, share_inputs=True)
            for request in requests:
                request.wait()
            # Copied under the lock: the next request writes into the same memory.
            return Outputs(
                *(
                    np.concatenate([request.get_tensor(name).data for request in requests], dtype=np.float32)
                    for name in ("output", "embedding")
                )
            )

    def _compile(self, streams: int) -> ov.CompiledModel:
        return self._core.compile_model(self._model, "CPU", _properties(self.settings, streams))

    def _streams(self) -> list[ov.InferRequest]:
        compiled = self._compile(self.settings.threads)
        return [compiled.create_infer_request() for _ in range(self.settings.threads)]

    def close(self) -> None:
        with self._lock:
            self._request, self._divided = None, []


def load(model: bytes, settings: InferenceSettings) -> OpenVino:
    core = ov.Core()
    settings = settings.model_copy(update={"precision": _precision(core, settings.precision)})
    try:
        runtime = OpenVino(core.read_model(model), core, settings)
    except RuntimeError as error:
        raise BundleError(f"{MODEL} does not load in OpenVINO: {str(error).splitlines()[-1]}") from error
    names = {name for output in runtime.compiled.outputs for name in output.names}
    if len(runtime.compiled.inputs) != 1 or not {"output", "embedding"} <= names:
        raise BundleError(f"{MODEL} must have one input and the outputs output and embedding; it has {sorted(names)}.")
    return runtime


def _properties(settings: InferenceSettings, streams: int) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": _ELEMENT[settings.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": settings.threads,
    }


def _precision(core: ov.Core, asked: Precision) -> Precision:
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if asked == "f16":
        raise ConfigError("openvino runs in f32 or bf16 here; ask for one of them or auto.")
    if asked == "bf16" and not native:
        raise ConfigError("this processor does not compute in bf16; ask for f32 or auto.")
    if asked == "auto":
        return "bf16" if native else "f32"
    return asked
