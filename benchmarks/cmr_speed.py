"""A whole cine study, 192 x 208 x 10 x 50, from array to measures: `python -m benchmarks.cmr_speed`.

Against the same network in torch, eager, in 32 bits, in the same run. Axes: T phase, Z slice, H row, W column."""

import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import machine
from benchmarks.results import MEASURED
from echoplane import runtimes
from echoplane.bundle import read
from echoplane.phantom.mr import Grid, make_mr_patient, scan_plane, short_axis_planes
from echoplane.stages.measure import SHIPPED
from echoplane.study.cine import Cine
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation import learning
from echoplane.tasks.cmr_segmentation.networks import Fcn

PHASES, SLICES, ROWS, COLUMNS = 50, 10, 192, 208
THREADS, REPEATS, TORCH_SLICES = 2, 3, 32


def study() -> Study:
    """A synthetic patient at 10 phases, each held for five frames: a network does not mind."""
    patient = make_mr_patient(5)
    phases = np.arange(10) / 10
    planes = short_axis_planes(patient, 9.0)[:SLICES]
    scans = [scan_plane(patient, plane, Grid(ROWS, COLUMNS, 1.8), phases)[0] for plane in planes]
    voxels_TZHW = np.repeat((np.stack(scans, axis=1) * 800).astype(np.uint16), PHASES // 10, axis=0)
    return Study((), (Cine("short-axis", voxels_TZHW, (1.8, 1.8), 9.0, 20.0),))


def torch_s(network: torch.nn.Module, batch: np.ndarray) -> float:
    """Seconds of a forward pass over the whole study, from the median over TORCH_SLICES slices."""
    network.eval()
    tensor = torch.from_numpy(batch[:TORCH_SLICES])
    times = []
    with torch.inference_mode():
        for _ in range(REPEATS):
            start = time.perf_counter()
            network(tensor)
            times.append(time.perf_counter() - start)
    return statistics.median(times) * PHASES * SLICES / TORCH_SLICES


def whole_s(given: Study, folder: Path, precision: str) -> float:
    """Seconds from the array to measures and flags."""
    bundle = read(folder)
    runtime = runtimes.load(bundle, precision=precision, threads=THREADS)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        runtimes.answer(given, bundle, runtime)
        times.append(time.perf_counter() - start)
    runtime.close()
    return statistics.median(times)


def main() -> None:
    torch.set_num_threads(THREADS)
    given, bundle = study(), read(SHIPPED)
    batch = task.preprocess(given, task.Preprocessing()).batch
    network = learning.network(learning.Network.model_validate(bundle.spec.network))
    published = Fcn(16, 6, as_published=True)
    figures = {
        "whole_auto_s": whole_s(given, SHIPPED, "auto"),
        "whole_f32_s": whole_s(given, SHIPPED, "f32"),
        "torch_eager_f32_s": torch_s(network.to(memory_format=torch.contiguous_format), batch),
        "torch_eager_f32_published_fcn_s": torch_s(published, batch),
    }
    figures["ratio"] = figures["torch_eager_f32_s"] / figures["whole_auto_s"]
    result = {"figures": figures, "conditions": machine.conditions("python -m benchmarks.cmr_speed", 5)}
    MEASURED.mkdir(parents=True, exist_ok=True)
    (MEASURED / "cmr-speed.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
