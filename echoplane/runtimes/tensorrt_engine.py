"""Builds a TensorRT engine from ONNX. TensorRT itself is an argument, and nothing else is imported, so that tests run
this in TensorRT's own environment, which holds nothing of echoplane."""

from collections.abc import Sequence
from typing import Any

ROWS, SIDES = (1, 4, 16), (16, 192, 512)
"""Smallest, typical and largest number of rows, and of pixels along a side that the network leaves free."""


class EngineError(Exception):
    """Raised if TensorRT cannot parse or build the model; the message is TensorRT's first complaint."""


def build(trt: Any, model: bytes, logger: Any, precision: str) -> bytes:
    """Returns the serialised engine of `model` for the GPU of this machine, at precision f32 or f16."""
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        complaint = parser.get_error(0).desc() if parser.num_errors else "the model does not parse"
        raise EngineError(complaint.splitlines()[0])
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    entry = network.get_input(0)
    profile.set_shape(entry.name, *(_shape(entry.shape, at) for at in range(len(ROWS))))
    config.add_optimization_profile(profile)
    if precision == "f16":
        config.set_flag(trt.BuilderFlag.FP16)
    elif hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # its 10-bit mantissa is not f32
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError("the model parses but no engine can be built; TensorRT's log has the reason")
    return bytes(engine)


def precision_of(trt: Any, asked: str) -> str:
    """Returns f16 for auto if this TensorRT takes it as a flag; TensorRT for RTX runs what the model says."""
    if asked == "auto":
        return "f16" if hasattr(trt.BuilderFlag, "FP16") else "f32"
    return asked


def _shape(axes: Sequence[int], at: int) -> list[int]:
    return [ROWS[at], *(axis if axis > 0 else SIDES[at] for axis in list(axes)[1:])]
