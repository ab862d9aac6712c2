"""Doubles of TensorRT and of CUDA's runtime: an "engine" is the ONNX model itself, run on the CPU, and the memory of
the "GPU" is this process's. They show how our code calls both, not what a GPU computes."""

import ctypes
import itertools
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

MAGIC = b"engine of a double: "


class Gpu:
    """What the doubles were asked to do; `scale` falsifies the outputs."""

    def __init__(self) -> None:
        self.builds, self.rows, self.flags, self.alive, self.scale = 0, [], [], {}, 1.0

    def install(self, monkeypatch: pytest.MonkeyPatch, name: str = "NVIDIA Double 1", version: str = "10.3.0") -> None:
        cudart = ModuleType("cuda.bindings.runtime")
        vars(cudart).update(self._cuda(name))
        bindings = ModuleType("cuda.bindings")
        bindings.runtime = cudart
        for path, module in (
            ("cuda", ModuleType("cuda")),
            ("cuda.bindings", bindings),
            ("cuda.bindings.runtime", cudart),
            ("tensorrt", self._tensorrt(version)),
        ):
            monkeypatch.setitem(__import__("sys").modules, path, module)

    def _allocate(self, size: int) -> tuple[int, int]:
        memory = ctypes.create_string_buffer(size)
        self.alive[ctypes.addressof(memory)] = memory
        return 0, ctypes.addressof(memory)

    def _free(self, address: int) -> tuple[int]:
        del self.alive[address]
        return (0,)

    def _cuda(self, name: str) -> dict[str, Any]:
        def copy(target: int, source: int, size: int, kind: str, stream: int) -> tuple[int]:
            ctypes.memmove(target, source, size)
            return (0,)

        return {
            "cudaGetDeviceCount": lambda: (0, 1),
            "cudaGetDeviceProperties": lambda device: (0, SimpleNamespace(name=name.encode())),
            "cudaMemcpyKind": SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out"),
            "cudaHostAlloc": lambda size, flags: self._allocate(size),
            "cudaMalloc": self._allocate,
            "cudaFreeHost": self._free,
            "cudaFree": self._free,
            "cudaMemcpyAsync": copy,
            "cudaStreamCreate": lambda: (0, 7),
            "cudaStreamSynchronize": lambda stream: (0,),
            "cudaStreamDestroy": lambda stream: (0,),
        }

    def _tensorrt(self, version: str) -> ModuleType:
        gpu, module = self, ModuleType("tensorrt")

        class Config:
            def add_optimization_profile(self, profile: object) -> None:
                """Takes it."""

            def set_flag(self, flag: str) -> None:
                gpu.flags.append(flag)

            def clear_flag(self, flag: str) -> None:
                gpu.flags.append(f"no {flag}")

        class Builder:
            def __init__(self, logger: object) -> None:
                self.network: Any = SimpleNamespace(
                    model=b"", get_input=lambda at: SimpleNamespace(name="i", shape=[-1])
                )

            def create_network(self, flags: int) -> Any:
                return self.network

            def create_builder_config(self) -> Config:
                return Config()

            def create_optimization_profile(self) -> Any:
                return SimpleNamespace(set_shape=lambda name, *shapes: None)

            def build_serialized_network(self, network: Any, config: Config) -> bytes:
                gpu.builds += 1
                return MAGIC + network.model

        class OnnxParser:
            num_errors = 1

            def __init__(self, network: Any, logger: object) -> None:
                self._network = network

            def parse(self, model: bytes) -> bool:
                self._network.model = model
                return b"unknown operator" not in model

            def get_error(self, at: int) -> Any:
                return SimpleNamespace(desc=lambda: "operator unknown")

        class Runtime:
            def __init__(self, logger: object) -> None:
                """Takes it."""

            def deserialize_cuda_engine(self, content: bytes) -> Any:
                return Engine(gpu, content[len(MAGIC) :]) if content.startswith(MAGIC) else None

        module.__version__ = version
        module.Logger = type("Logger", (), {"WARNING": 2, "__init__": lambda self, severity: None})
        module.BuilderFlag = SimpleNamespace(FP16="FP16", TF32="TF32")
        module.Builder, module.OnnxParser, module.Runtime = Builder, OnnxParser, Runtime
        return module


class Engine:
    """An engine and its only context."""

    def __init__(self, gpu: Gpu, model: bytes) -> None:
        self._gpu, self._session = gpu, ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._names = [self._session.get_inputs()[0].name, *(one.name for one in self._session.get_outputs())]
        self.num_io_tensors, self._addresses, self._shape = len(self._names), {}, (0,)

    def get_tensor_name(self, at: int) -> str:
        return self._names[at]

    def create_execution_context(self) -> "Engine":
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return len(shape) == len(self._session.get_inputs()[0].shape)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = next(one.shape for one in self._session.get_outputs() if one.name == name)
        return (self._shape[0], *shape[1:])

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        size = int(np.prod(self._shape))
        batch = np.frombuffer(ctypes.string_at(self._addresses[self._names[0]], size), np.uint8).reshape(self._shape)
        self._gpu.rows.append(len(batch))
        outputs = self._session.run(self._names[1:], {self._names[0]: batch})
        for name, output in zip(self._names[1:], itertools.chain(outputs), strict=True):
            content = np.ascontiguousarray(output * np.float32(self._gpu.scale))
            ctypes.memmove(self._addresses[name], content.ctypes.data, content.nbytes)
        return True
