"""TensorRT on the GPU of this machine. The engine is built here, at the first load of a model, and kept in a folder.

An engine fits only the GPU and the version of TensorRT that built it, so both are in its name, with the digest of the
model and the precision. ECHOPLANE_ENGINE_CACHE names the folder. It must be writable by this user alone, since an
engine is code: the folder is made so, and refused if it is not.
"""

import contextlib
import hashlib
import logging
import os
import re
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np

from echoplane.bundle.spec import MODEL
from echoplane.errors import BundleError, ConfigError
from echoplane.files import write_atomically
from echoplane.runtimes import tensorrt_engine
from echoplane.runtimes.cuda import Buffer, Stream, gpu_name
from echoplane.runtimes.names import InferenceSettings
from echoplane.runtimes.runtime import Outputs

log = logging.getLogger("echoplane.runtimes")

CACHE = "ECHOPLANE_ENGINE_CACHE"
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
NAMES = ("output", "embedding")


class TensorRt:
    """One execution context behind a lock: a batch is copied in, run and copied out on one stream."""

    def __init__(self, engine: Any, settings: InferenceSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._engine: Any = engine
        self._context = engine.create_execution_context()
        names = {engine.get_tensor_name(number) for number in range(engine.num_io_tensors)}
        if len(names) != 1 + len(NAMES) or not set(NAMES) <= names:
            raise BundleError(f"{MODEL} must have one input and the outputs output and embedding; has {sorted(names)}.")
        (self._input,) = names - set(NAMES)
        self._stream = Stream()
        self._buffers = {name: Buffer() for name in names}

    def run(self, batch: np.ndarray) -> Outputs:
        rows = tensorrt_engine.ROWS[-1]
        with self._lock:
            if self._engine is None:
                raise BundleError("the model was closed; load it again.")
            parts = [self._run(batch[start : start + rows]) for start in range(0, len(batch), rows)]
        return Outputs(*(np.concatenate([part[name] for part in parts]) for name in NAMES))

    def close(self) -> None:
        with self._lock:
            if self._engine is None:
                return
            self._engine, self._context = None, None
            for buffer in self._buffers.values():
                buffer.close()
            self._stream.close()

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        batch = np.ascontiguousarray(batch)
        if not self._context.set_input_shape(self._input, batch.shape):
            raise BundleError(f"the engine takes no batch of shape {batch.shape}; use another runtime for it.")
        self._stream.to_gpu(self._buffers[self._input], batch)
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in NAMES}
        sizes = {name: int(np.prod(shape)) * np.dtype(np.float32).itemsize for name, shape in shapes.items()}
        for name, size_bytes in sizes.items():
            self._buffers[name].reserve(size_bytes)
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.device)
        if not self._context.execute_async_v3(self._stream.handle):
            raise BundleError("TensorRT could not run the batch; its log has the reason.")
        for name, size_bytes in sizes.items():
            self._stream.from_gpu(self._buffers[name], size_bytes)
        self._stream.wait()
        return {name: self._buffers[name].array(shape) for name, shape in shapes.items()}


def load(model: bytes, settings: InferenceSettings) -> TensorRt:
    """Loads the kept engine of `model` for this GPU, or builds it (minutes). Raises ConfigError if something that
    TensorRT needs is missing here, and BundleError if it does not take the model."""
    trt, gpu = _tensorrt(), gpu_name()
    if settings.precision == "bf16":
        raise ConfigError("tensorrt runs in f32 or f16 here; ask for one of them or auto.")
    precision = tensorrt_engine.precision_of(trt, settings.precision)
    logger = trt.Logger(trt.Logger.WARNING)
    path = _folder() / engine_name(model, gpu, trt.__version__, precision)
    engine = _kept(trt, logger, path) or _built(trt, logger, model, precision, path)
    return TensorRt(engine, settings.model_copy(update={"precision": precision, "device": "gpu"}))


def engine_name(model: bytes, gpu: str, version: str, precision: str) -> str:
    """Returns the file name of an engine; it differs in all that the engine depends on."""
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return f"{hashlib.sha256(model).hexdigest()[:32]}-{slug}-trt{version}-{precision}.engine"


def _kept(trt: Any, logger: Any, path: Path) -> Any:
    """Returns the kept engine, or None if there is none or this TensorRT does not take it."""
    if not path.is_file():
        return None
    engine = trt.Runtime(logger).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        log.warning("the kept engine %s is damaged; it is built again.", path.name)
        path.unlink()
    return engine


def _built(trt: Any, logger: Any, model: bytes, precision: str, path: Path) -> Any:
    try:
        content = tensorrt_engine.build(trt, model, logger, precision)
    except tensorrt_engine.EngineError as error:
        raise BundleError(f"{MODEL} does not build in TensorRT: {error}.") from None
    with contextlib.suppress(OSError):  # a full disk costs the next start minutes, not this one
        write_atomically(path, content, 0o600)
    engine = trt.Runtime(logger).deserialize_cuda_engine(content)
    if engine is None:
        raise BundleError(f"{MODEL} builds in TensorRT, but the engine does not load on this GPU.")
    return engine


def _folder() -> Path:
    folder = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "echoplane" / "engines")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & OTHERS_MAY_WRITE:
        raise ConfigError(f"the folder of {CACHE} must belong to this user and be writable by nobody else.")
    return folder


def _tensorrt() -> Any:
    try:
        import tensorrt
    except ImportError:
        message = "the package tensorrt is missing, which NVIDIA's images bring; use another runtime."
        raise ConfigError(message) from None
    return tensorrt
