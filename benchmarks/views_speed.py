"""How fast the phantom renders small clips: `python -m benchmarks.views_speed`. Processor time, so that other work on
the machine does not count; each core renders alone."""

import time

import cv2
import numpy as np

from benchmarks.views_pictures import sector
from echoplane.phantom import WIDE, echo, make_patient
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import draw_optics, draw_scan
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.phantom.probe import pose

FRAMES = 32
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


def main() -> None:
    cv2.setNumThreads(1)
    render(0, "plax")  # fills the caches of textures
    start = time.process_time()
    for seed in (1, 2):
        for view in VIEW_NAMES:
            render(seed, view)
    seconds = (time.process_time() - start) / (2 * len(VIEW_NAMES))
    print(f"{1000 * seconds:.0f} ms of processor time per clip of {FRAMES} frames: {2 / seconds:.1f} per s on 2 cores")


if __name__ == "__main__":
    main()
