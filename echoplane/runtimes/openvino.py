"""OpenVINO on the CPU. Precision, threads and streams are set, never left to be chosen: OpenVINO would take bf16 by
itself where the processor has it, and another number of threads may add in another order."""

import threading

import numpy as np
import openvino as ov

from echoplane.bundle import Bundle
from echoplane.bundle.spec import MODEL
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes.runtime import Outputs

_ELEMENT = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


class OpenVino:
    """One compiled model with one infer request behind a lock: there is one stream, so a second request would wait
    inside OpenVINO all the same, and one at a time keeps each answer's arithmetic its own."""

    name = "openvino"

    def __init__(self, compiled: ov.CompiledModel, precision: str, threads: int) -> None:
        self.precision = precision
        self.threads = threads
        self._lock = threading.Lock()
        self._request: ov.InferRequest | None = compiled.create_infer_request()

    def run(self, batch: np.ndarray) -> Outputs:
        with self._lock:
            if self._request is None:
                raise BundleError("the model was closed; load it again.")
            results = self._request.infer({0: batch}, share_inputs=True)
            # Copied under the lock: the next request writes into the same memory.
            return Outputs(*(np.array(results[name], np.float32) for name in ("output", "embedding")))

    def close(self) -> None:
        with self._lock:
            self._request = None


def load(bundle: Bundle, precision: str, threads: int) -> OpenVino:
    core = ov.Core()
    chosen = _precision(core, precision)
    try:
        model = core.read_model(bundle.content(MODEL))
        compiled = core.compile_model(model, "CPU", _settings(chosen, threads))
    except RuntimeError as error:
        raise BundleError(f"{MODEL} does not load in OpenVINO: {str(error).splitlines()[-1]}") from error
    names = {name for output in compiled.outputs for name in output.names}
    if len(compiled.inputs) != 1 or not {"output", "embedding"} <= names:
        raise BundleError(f"{MODEL} must have one input and the outputs output and embedding; it has {sorted(names)}.")
    return OpenVino(compiled, chosen, threads)


def _settings(precision: str, threads: int) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": _ELEMENT[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }


def _precision(core: ov.Core, asked: str) -> str:
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if asked == "bf16" and not native:
        raise ConfigError("this processor does not compute in bf16; ask for f32 or auto.")
    if asked == "auto":
        return "bf16" if native else "f32"
    return asked
