"""How fast the phantom renders small clips: `python -m benchmarks views-speed`. Processor time, so that waiting for
other work on the machine does not count; each core renders alone."""

import time

import cv2
import numpy as np

from benchmarks import machine, results
from benchmarks.views_pictures import sector
from echoplane.phantom import WIDE, echo, make_patient
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import draw_optics, draw_scan
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.phantom.probe import pose

FRAMES = 32
SEEDS = (1, 2)
PIXELS = 112


def render(seed: int, view: str) -> np.ndarray:
    """Returns one clip (FRAMES, PIXELS, PIXELS) of a wide patient."""
    patient = make_patient(seed, WIDE)
    rng = np.random.default_rng([seed, 61])
    optics = draw_optics(rng, WIDE.optics)
    at = pose(patient.heart, landmarks(patient.heart), view, rng, WIDE.hand)
    look, defects = draw_scan(rng, WIDE)
    phases = np.arange(FRAMES) / FRAMES
    polar_TAS = echo.scan(patient.heart, at, optics, phases, look=look, defects=defects, grid=echo.THUMBNAIL)
    return np.stack([cv2.resize(sector(polar_AS, optics.half_angle_rad), (PIXELS, PIXELS)) for polar_AS in polar_TAS])


def measure() -> None:
    """Renders twelve views of two patients on one core and records the clips per second on two."""
    cv2.setNumThreads(1)
    render(0, "plax")  # fills the caches of textures
    start = time.process_time()
    for seed in SEEDS:
        for view in VIEW_NAMES:
            render(seed, view)
    per_second = 2 * len(SEEDS) * len(VIEW_NAMES) / (time.process_time() - start)
    print(f"{per_second:.1f} clips of {FRAMES} frames per second on 2 cores")
    text = (
        f"Processor time of the phantom's small clips (wide ranges, {FRAMES} frames, {PIXELS} pixels per side), "
        "two patients of twelve views. Other work on the machine lengthens processor time too."
    )
    figures = [{"figure": "clips per second on 2 cores", "value": f"{per_second:.1f}", "expected": "at least 25"}]
    conditions = machine.conditions("python -m benchmarks views-speed", SEEDS[0])
    results.record("views-speed", "Echo views from pictures", figures, conditions, text)
