"""Parse and build ONNX files with TensorRT, without a GPU: `python tensorrt_build.py FILE ...`, in its environment.

Prints one JSON object per file: its errors and warnings, and the size of the engine that was built. The environment of
TensorRT holds nothing of echoplane, so the module that builds engines in service is loaded by its path.
"""

import importlib.util
import json
import sys
from pathlib import Path

import tensorrt_rtx as trt

SOURCE = Path(__file__).resolve().parents[1] / "echoplane" / "runtimes" / "tensorrt_engine.py"


class Complaints(trt.ILogger):
    """Keeps what TensorRT complains of."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity <= trt.ILogger.Severity.WARNING:
            self.lines.append(f"{severity.name}: {message.splitlines()[0]}")


def build(path: Path) -> dict[str, object]:
    spec = importlib.util.spec_from_file_location("tensorrt_engine", SOURCE)
    engine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(engine)
    complaints = Complaints()
    try:
        size = len(engine.build(trt, path.read_bytes(), complaints, engine.precision_of(trt, "auto")))
    except engine.EngineError as error:
        complaints.lines.append(str(error))
        size = 0
    return {"complaints": complaints.lines, "engine_bytes": size}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(json.dumps(build(Path(name))) + "\n")
