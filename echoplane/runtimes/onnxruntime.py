"""ONNX Runtime on the CPU, in float32: the reference for other runtimes."""

import numpy as np
import onnxruntime as ort

from echoplane.bundle.spec import MODEL
from echoplane.errors import BundleError, ConfigError
from echoplane.runtimes.names import InferenceSettings
from echoplane.runtimes.runtime import Outputs


class OnnxRuntime:
    """One session; ONNX Runtime allows `run` from several threads at once."""

    def __init__(self, session: ort.InferenceSession, settings: InferenceSettings) -> None:
        self.settings = settings.model_copy(update={"precision": "f32"})
        self._session: ort.InferenceSession | None = session
        self._input = session.get_inputs()[0].name

    def run(self, batch: np.ndarray) -> Outputs:
        session = self._session
        if session is None:
            raise BundleError("the model was closed; load it again.")
        return Outputs(*session.run(["output", "embedding"], {self._input: batch}))

    def close(self) -> None:
        self._session = None


def load(model: bytes, settings: InferenceSettings) -> OnnxRuntime:
    if settings.precision not in ("auto", "f32"):
        raise ConfigError("onnxruntime runs in f32 here; ask for f32 or auto.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no other common base
        raise BundleError(f"{MODEL} does not load in ONNX Runtime: {str(error).splitlines()[0]}") from error
    names = {output.name for output in session.get_outputs()}
    if len(session.get_inputs()) != 1 or not {"output", "embedding"} <= names:
        raise BundleError(f"{MODEL} must have one input and the outputs output and embedding; it has {sorted(names)}.")
    return OnnxRuntime(session, settings)
