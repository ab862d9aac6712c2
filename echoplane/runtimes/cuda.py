"""The GPU of this machine through CUDA's runtime: its name, a stream, and buffers that a batch travels through."""

import ctypes
import functools
from types import ModuleType
from typing import Any

import numpy as np

from echoplane.errors import BundleError, ConfigError

NO_GPU = "this machine has no NVIDIA GPU with a driver that works"
DEVICE = 0


def gpu_name() -> str:
    """Returns the name of the first GPU. Raises ConfigError, which says what is missing, if there is none."""
    error, count = _runtime().cudaGetDeviceCount()
    if int(error) or not count:
        raise ConfigError(f"{NO_GPU}; use another runtime, or run on a GPU node.")
    name: str | bytes = _call("cudaGetDeviceProperties", DEVICE).name
    return name.decode() if isinstance(name, bytes) else name


class Stream:
    """A stream of work on the GPU."""

    def __init__(self) -> None:
        self._stream = _call("cudaStreamCreate")

    @property
    def handle(self) -> int:
        return int(self._stream)

    def to_gpu(self, buffer: "Buffer", array: np.ndarray) -> None:
        """Copies `array` through pinned memory to the GPU; the copy is ordered before later work of the stream."""
        buffer.reserve(array.nbytes)
        ctypes.memmove(buffer.host, array.ctypes.data, array.nbytes)
        kind = _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", buffer.device, buffer.host, array.nbytes, kind, self._stream)

    def from_gpu(self, buffer: "Buffer", size_bytes: int) -> None:
        kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", buffer.host, buffer.device, size_bytes, kind, self._stream)

    def wait(self) -> None:
        _call("cudaStreamSynchronize", self._stream)

    def close(self) -> None:
        _call("cudaStreamDestroy", self._stream)


class Buffer:
    """Memory of one tensor, pinned on the host and on the GPU; it grows as needed and is reused."""

    def __init__(self) -> None:
        self.host, self.device, self._size = 0, 0, 0

    def reserve(self, size_bytes: int) -> None:
        if size_bytes > self._size:
            self.close()
            self.host = int(_call("cudaHostAlloc", size_bytes, 0))
            self.device = int(_call("cudaMalloc", size_bytes))
            self._size = size_bytes

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a copy of the host's memory as float32."""
        count = int(np.prod(shape))
        memory = (ctypes.c_float * count).from_address(self.host)
        return np.ctypeslib.as_array(memory).reshape(shape).copy()

    def close(self) -> None:
        if self._size:
            _call("cudaFreeHost", self.host)
            _call("cudaFree", self.device)
        self.host, self.device, self._size = 0, 0, 0


@functools.cache
def _runtime() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise ConfigError("the package cuda-bindings is missing; use another runtime, or NVIDIA's image.") from None
    module: ModuleType = runtime
    return module


def _call(name: str, *arguments: Any) -> Any:
    """Calls CUDA and returns its result. Raises BundleError, which names the call and CUDA's error."""
    error, *result = getattr(_runtime(), name)(*arguments)
    if int(error):
        raise BundleError(f"the GPU failed in {name} (CUDA error {int(error)}).")
    return result[0] if result else None
