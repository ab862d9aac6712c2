"""The demo's champion on its runtime against torch eager, one clip at a time, on one machine in one run."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.results import record
from echoplane import runtimes
from echoplane.bundle import Bundle, read
from echoplane.runtimes import InferenceSettings

REPEATS = 60


def measure(bundle_folder: Path, demo: dict[str, Any]) -> None:
    """Network times of each runtime, and the demo's HTTP times."""
    bundle = read(bundle_folder)
    batch = bundle.golden.batch[:1]
    runs = {"torch eager, f32": _torch(bundle, batch)}
    for runtime, precision in (("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16")):
        settings = InferenceSettings(runtime=runtime, precision=precision)
        loaded = runtimes.open(bundle, settings).runtime
        runs[f"{runtime}, {precision}"] = lambda loaded=loaded: loaded.run(batch)
    times = _interleaved(runs)
    eager = times["torch eager, f32"]
    figures = [
        {"figure": f"{name}, median ms (times as fast as eager)", "value": f"{ms:.2f} ({eager / ms:.1f})"}
        for name, ms in times.items()
    ]
    http = demo["http_ms"]
    figures.append({"figure": "HTTP, DICOM in to JSON out, p50 and p95 ms", "value": f"{http['p50']}, {http['p95']}"})
    record(
        "serving",
        "Speed of an answer",
        figures,
        machine.conditions("make bench", None),
        f"The demo's network on one clip, {REPEATS} runs each, taken in turns. HTTP is every held-out clip of the "
        "demo, one after the other.",
    )


def _torch(bundle: Bundle, batch: np.ndarray) -> Callable[[], object]:
    import torch
    from safetensors.torch import load_file

    from echoplane.bundle.spec import WEIGHTS
    from echoplane.tasks import learning

    half = learning(bundle.spec.task)
    network = half.network(half.Network(**bundle.spec.network))
    network.load_state_dict(load_file(bundle.folder / WEIGHTS))
    network.eval()
    tensor = torch.from_numpy(batch)

    def run() -> object:
        with torch.inference_mode():
            return network(tensor)

    return run


def _interleaved(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median ms of each; in turns, so that what else the machine does falls on all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values[5:]) for name, values in times.items()}
