"""A whole cine study, 192 x 208 x 10 x 50, from array to measures: `python -m benchmarks cmr-speed`.

Against the same network in torch, eager, in 32 bits, in the same run. Axes: T phase, Z slice, H row, W column."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks import machine, results
from benchmarks.cmr_bundle import sealed
from echoplane import runtimes
from echoplane.bundle import read
from echoplane.phantom.mr import scan_plane
from echoplane.phantom.mr_patient import make_mr_patient
from echoplane.phantom.mr_planes import Grid, short_axis_planes
from echoplane.runtimes import InferenceSettings, OpenModel, Precision, Runtime
from echoplane.stages.measure import SHIPPED
from echoplane.study.cine import Cine
from echoplane.study.study import Study
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation import learning
from echoplane.tasks.cmr_segmentation.inference import ROWS_AT_ONCE
from echoplane.tasks.cmr_segmentation.networks import Fcn

PHASES, SLICES, ROWS, COLUMNS = 50, 10, 192, 208
THREADS, REPEATS, TORCH_SLICES = 2, 3, 32
PRECISIONS: tuple[Precision, ...] = ("auto", "f32")
SEED = 5


def study() -> Study:
    """A synthetic patient at 10 phases, each held for five frames: a network does not mind."""
    patient = make_mr_patient(SEED)
    phases = np.arange(10) / 10
    planes = short_axis_planes(patient, 9.0)[:SLICES]
    scans = [scan_plane(patient, plane, Grid(ROWS, COLUMNS, 1.8), phases)[0] for plane in planes]
    voxels_TZHW = np.repeat((np.stack(scans, axis=1) * 800).astype(np.uint16), PHASES // 10, axis=0)
    return Study((), (Cine("short-axis", voxels_TZHW, (1.8, 1.8), 9.0, 20.0),))


def torch_s(network: torch.nn.Module, batch: np.ndarray) -> float:
    """Seconds of a forward pass over the whole study, from TORCH_SLICES slices of it."""
    tensor = torch.from_numpy(batch[:TORCH_SLICES])
    start = time.perf_counter()
    with torch.inference_mode():
        network(tensor)
    return (time.perf_counter() - start) * PHASES * SLICES / TORCH_SLICES


def passes_s(runtime: Runtime, batch: np.ndarray) -> float:
    """Seconds of forward passes over whole pictures."""
    start = time.perf_counter()
    for first in range(0, len(batch), ROWS_AT_ONCE):
        runtime.run(batch[first : first + ROWS_AT_ONCE])
    return time.perf_counter() - start


def whole_s(given: Study, model: OpenModel) -> float:
    """Seconds from the array to measures and flags."""
    start = time.perf_counter()
    runtimes.answer(given, model)
    return time.perf_counter() - start


def in_turns(works: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of REPEATS of each, one after the other each time: what else the machine does hits all alike."""
    for work in works.values():
        work()
    taken = [{name: work() for name, work in works.items()} for _ in range(REPEATS)]
    return {name: statistics.median(each[name] for each in taken) for name in works}


def as_bundle(published: Fcn, folder: Path) -> Path:
    """The paper's network with these weights, which nobody trained: for its speed alone."""
    state = SimpleNamespace(weights=published.state_dict())
    network = learning.Network(kind="fcn", width=16)
    return sealed(state, network, folder, card="Not trained.\n", data_digest="0" * 64, abstain_below=0.85)  # type: ignore[arg-type]


def measure() -> None:
    """Record the figures, and write their section of docs/results.md."""
    torch.set_num_threads(THREADS)
    given, bundle = study(), read(SHIPPED)
    batch = task.preprocess(given, task.Preprocessing()).batch
    network = learning.network(learning.Network.model_validate(bundle.spec.network)).eval()
    eager = network.to(memory_format=torch.contiguous_format)
    published = Fcn(16, 6, as_published=True).eval()
    fast, exact = (
        runtimes.open(bundle, InferenceSettings(precision=precision, threads=THREADS)) for precision in PRECISIONS
    )
    with tempfile.TemporaryDirectory() as folder:
        commuted = runtimes.open(as_bundle(published, Path(folder) / "fcn"), InferenceSettings(threads=THREADS))
    found = in_turns(
        {
            "fast": lambda: whole_s(given, fast),
            "passes": lambda: passes_s(fast.runtime, batch[: PHASES * SLICES]),  # without mirrored ones
            "exact": lambda: whole_s(given, exact),
            "eager": lambda: torch_s(eager, batch),
            "published": lambda: torch_s(published, batch),
            "commuted": lambda: whole_s(given, commuted),
        }
    )
    used, plain = fast.runtime.settings, commuted.runtime.settings
    least = f"at least {5 if used.precision == 'bf16' else 3}"
    figures = [
        {
            "figure": f"from array to measures and flags, {used.runtime} {used.precision}, s",
            "value": f"{found['fast']:.1f}",
            "expected": "at most 12",
        },
        {"figure": f"the same at {exact.runtime.settings.precision}, s", "value": f"{found['exact']:.1f}"},
        {
            "figure": f"forward passes alone, {used.precision}, all pictures whole, s",
            "value": f"{found['passes']:.1f}",
        },
        {"figure": "the same network in torch, eager, f32, forward passes alone, s", "value": f"{found['eager']:.1f}"},
        {
            "figure": "as many times faster, measures included",
            "value": f"{found['eager'] / found['fast']:.1f}",
            "expected": least,
        },
        {
            "figure": "the paper's network in torch, eager, f32, forward passes alone, s",
            "value": f"{found['published']:.1f}",
        },
        {
            "figure": f"the paper's network, 1x1 before enlarging, {plain.precision}, to measures and flags, s",
            "value": f"{found['commuted']:.1f}",
        },
        {
            "figure": "as many times faster than in torch",
            "value": f"{found['published'] / found['commuted']:.1f}",
            "expected": least,
        },
        {
            "figure": "the shipped network against the paper's in torch, as many times faster",
            "value": f"{found['published'] / found['fast']:.1f}",
        },
    ]
    text = (
        f"One study of {ROWS} x {COLUMNS} pixels, {SLICES} slices, {PHASES} phases on {THREADS} cores by the shipped "
        "bundle, which sees phases after the first around the heart alone (docs/cmr.md); torch sees whole pictures, as "
        "does the paper's network, whose weights are random. Medians of "
        f"{REPEATS}, taken in turns; torch on {TORCH_SLICES} slices, scaled to all. The paper's authors report about "
        "10 s for such a study on a Titan GPU."
    )
    conditions = machine.conditions("python -m benchmarks cmr-speed", SEED)
    results.record("cmr-speed", "Speed of a cine MR study", figures, conditions, text)


if __name__ == "__main__":
    measure()
    results.write_page(["cmr-speed"])
