"""Parse and build ONNX files with TensorRT, without a GPU: `python tensorrt_build.py FILE ...`, in its environment.

Prints one JSON object per file: its errors and warnings, and the size of the engine that was built. Runs alone: the
environment of TensorRT holds nothing of echoplane.
"""

import json
import sys
from pathlib import Path

import tensorrt_rtx as trt

SMALLEST, TYPICAL, LARGEST = (1, 64), (2, 64), (4, 128)
"""Batch, and rows and columns where they are free, of the optimisation profile."""


class Complaints(trt.ILogger):
    """Keeps what TensorRT complains of."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity <= trt.ILogger.Severity.WARNING:
            self.lines.append(f"{severity.name}: {message.splitlines()[0]}")


def build(path: Path) -> dict[str, object]:
    complaints = Complaints()
    builder = trt.Builder(complaints)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, complaints)
    engine = None
    if parser.parse(path.read_bytes()):
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        entry = network.get_input(0)
        profile.set_shape(entry.name, *(_shape(entry.shape, size) for size in (SMALLEST, TYPICAL, LARGEST)))
        config.add_optimization_profile(profile)
        engine = builder.build_serialized_network(network, config)
    return {"complaints": complaints.lines, "engine_bytes": engine.nbytes if engine else 0}


def _shape(axes: list[int], size: tuple[int, int]) -> list[int]:
    batch, side = size
    return [batch, *(axis if axis > 0 else side for axis in list(axes)[1:])]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(json.dumps(build(Path(name))) + "\n")
