"""Synthetic patient, and a scan of one view as a full-screen clip."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from echoplane.errors import ConfigError
from echoplane.phantom import echo, screen, trace
from echoplane.phantom.heart import Heart, make_heart
from echoplane.phantom.identity import Identity, make_identity
from echoplane.phantom.landmarks import landmarks
from echoplane.phantom.optics import Optics, draw_optics, draw_scan
from echoplane.phantom.probe import framed, pose
from echoplane.phantom.ranges import USUAL, Ranges
from echoplane.phantom.styles import STYLES, Style
from echoplane.study.views import VIDEO_VIEWS

VIEW_NAMES = tuple(view.name for view in VIDEO_VIEWS)


@dataclass(frozen=True, repr=False)
class Patient:
    """One heart and the invented patient around it; `style` is the machine of the lab."""

    seed: int
    heart: Heart
    identity: Identity
    style: str

    @property
    def edv_ml(self) -> float:
        return self.heart.edv_ml

    @property
    def esv_ml(self) -> float:
        return self.heart.esv_ml

    @property
    def ef_percent(self) -> float:
        return 100 * self.heart.ef


@dataclass(frozen=True, repr=False)
class EchoClip:
    """Screens as the machine shows them, and the content of the header."""

    rgb: NDArray[np.uint8]
    """Screens (frame, row, column, 3)."""
    sector_mask: NDArray[np.bool_]
    """Mask (row, column), True where tissue is shown."""
    sector: screen.Sector
    trace_box: tuple[int, int, int, int]
    """First column, first row, last column, last row of the ECG."""
    frame_time_ms: float
    spacing_mm: float
    heart_rate_bpm: int
    phases: NDArray[np.float64]
    """Phase of the beat per frame; 0 is the R wave."""
    captions: tuple[screen.Caption, ...]
    """All burned-in text."""
    acquired: datetime
    number: int
    """Position of the clip in the study, from 1."""
    optics: Optics
    style: Style
    view: str
    ecg_mv: NDArray[np.float32]
    """ECG voltage at each frame."""
    seed: int


def make_patient(seed: int, ranges: Ranges = USUAL) -> Patient:
    """Returns the patient of a seed and ranges: the same one at every call."""
    rng = np.random.default_rng([seed, 11])
    identity = make_identity(rng, seed)
    style = str(rng.choice(list(STYLES)))
    return Patient(seed, make_heart(np.random.default_rng([seed, 12]), ranges.heart), identity, style)


def scan_echo(
    patient: Patient,
    view: str,
    seed: int,
    *,
    frames: int = 24,
    style: str | None = None,
    number: int = 1,
    ranges: Ranges = USUAL,
) -> EchoClip:
    """Holds the probe for `view` and records a clip.

    Everything outside the sector depends on the patient, the seed and the number; only the sector depends on the view.
    """
    if view not in VIEW_NAMES:
        raise ConfigError(f"there is no view {view!r}; one of {', '.join(VIEW_NAMES)} is needed")
    machine = STYLES[style or patient.style]
    rng = np.random.default_rng([patient.seed, seed, 21])
    optics = draw_optics(rng, ranges.optics)
    optics = framed(optics, patient.heart, view, np.random.default_rng([patient.seed, seed, 24]), ranges.hand)
    heart_rate_bpm = round(patient.heart.heart_rate_bpm * rng.uniform(0.96, 1.04))
    frame_time_ms = round(float(rng.uniform(28, 42)), 3)
    phase_at_start = float(rng.uniform())
    acquired = patient.identity.study_start + timedelta(seconds=45 * number + int(rng.integers(30)))
    phases = phase_at_start + np.arange(frames) * frame_time_ms / 1000 * heart_rate_bpm / 60
    sector = screen.place_sector(machine, optics, rng)
    texts = screen.captions(machine, patient.identity, optics, acquired, frame_time_ms, heart_rate_bpm, rng)
    still = screen.still_screen(machine, sector, texts, float(rng.uniform(60, 110)))
    sweep_from = float(rng.uniform())

    hand = np.random.default_rng([patient.seed, seed, 22])
    at = pose(patient.heart, landmarks(patient.heart), view, hand, ranges.hand)
    look, defects = draw_scan(np.random.default_rng([patient.seed, seed, 23]), ranges)
    polar = echo.scan(patient.heart, at, optics, phases, look=look, defects=defects)

    rgb = screen.compose(polar, machine, sector, still)
    trace.draw_ecg(rgb, machine, frame_time_ms, heart_rate_bpm, phase_at_start, sweep_from)
    return EchoClip(
        rgb=rgb,
        sector_mask=screen.sector_mask(machine, sector, (polar.shape[1], polar.shape[2])),
        sector=sector,
        trace_box=trace.trace_box(machine),
        frame_time_ms=frame_time_ms,
        spacing_mm=1 / sector.pixels_per_mm,
        heart_rate_bpm=heart_rate_bpm,
        phases=phases,
        captions=texts,
        acquired=acquired,
        number=number,
        optics=optics,
        style=machine,
        view=view,
        ecg_mv=trace.ecg_mv(np.arange(frames) * frame_time_ms / 1000, heart_rate_bpm, phase_at_start),
        seed=seed,
    )
