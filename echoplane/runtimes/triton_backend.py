"""The model of Triton's Python backend: ONNX Runtime on the CPU. It runs inside the server and imports nothing of
echoplane; `echoplane.runtimes.triton_model` sends this file along."""

from pathlib import Path
from typing import Any

import onnxruntime as ort
import triton_python_backend_utils as pb_utils

NAMES = ("output", "embedding")


class TritonPythonModel:
    """One instance."""

    def initialize(self, args: dict[str, Any]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self._session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        batch = pb_utils.get_input_tensor_by_name(request, self._input).as_numpy()
        outputs = self._session.run(list(NAMES), {self._input: batch})
        tensors = [pb_utils.Tensor(name, output) for name, output in zip(NAMES, outputs, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
