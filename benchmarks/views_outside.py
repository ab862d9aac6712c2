"""Measures what the shipped echo-view-image says to pictures without a view: `python -m benchmarks views-outside`.

Each kind is drawn, as a still that claims to be an ultrasound scan; frozen ones as a clip. They are told from phantom
hearts on machines never seen by the confidence of the answer and by its energy; a picture that a check refuses ranks
below all others. Axes: H row, W column, N picture.
"""

from collections.abc import Callable

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks import machine, results
from benchmarks.views_pictures import COLUMNS, FIELD, ROWS, pictures, sector
from benchmarks.views_scores import SHIPPED
from benchmarks.views_training import UNSEEN, WORK
from echoplane import runtimes
from echoplane.phantom.mr import scan_plane
from echoplane.phantom.mr_patient import make_mr_patient
from echoplane.phantom.mr_planes import Grid, short_axis_planes
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.tasks.classify import energy

PER_KIND = 40
Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""Draws a picture (H, W), or frames (T, H, W), of a kind; it is given the picture of a heart."""


def _constant(level: int) -> Draw:
    return lambda rng, heart_HW: np.clip(rng.normal(level, 0.5, (1, ROWS, COLUMNS)), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, heart_HW: np.ndarray) -> np.ndarray:
    return rng.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)


def _frozen(rng: np.random.Generator, heart_HW: np.ndarray) -> np.ndarray:
    return np.repeat(heart_HW[None], 12, axis=0)


def _upside_down(rng: np.random.Generator, heart_HW: np.ndarray) -> np.ndarray:
    """A heart seen from behind, in a sector that ends at the upper edge: what a transoesophageal probe shows."""
    mask = sector(np.full((80, 120), 255, np.uint8), rng.uniform(0.6, 0.8)) > 0
    return np.asarray(heart_HW[::-1] * mask, np.uint8)


def _abdominal(rng: np.random.Generator, heart_HW: np.ndarray) -> np.ndarray:
    """Even organ tissue in a curved sector, with round dark vessels, a bright line of diaphragm, and a shadow."""
    polar = _tissue(rng, (80, 120), rng.uniform(80, 130))
    for _ in range(rng.integers(2, 6)):
        middle, axes = (int(rng.integers(10, 110)), int(rng.integers(5, 75))), tuple(rng.integers(2, 11, 2).tolist())
        cv2.ellipse(polar, middle, axes, float(rng.uniform(0, 180)), 0, 360, 15.0, -1)
    cv2.ellipse(polar, (70, 40), (int(rng.integers(25, 45)), 60), 0.0, -60, 60, 230.0, 2)
    return sector(np.clip(cv2.GaussianBlur(polar, (0, 0), 0.8), 0, 255).astype(np.uint8), 0.6, near=0.3)


def _carotid(rng: np.random.Generator, heart_HW: np.ndarray) -> np.ndarray:
    """A vessel along the picture of a linear probe: a dark band between two bright walls in tissue."""
    picture = _tissue(rng, (ROWS, COLUMNS), rng.uniform(70, 120))
    row, half, slope = rng.uniform(40, 80), rng.uniform(8, 18), rng.uniform(-0.12, 0.12)
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    away = np.abs(rows - row - slope * (columns - COLUMNS / 2))
    picture[away < half] = rng.uniform(5, 25)
    picture[np.abs(away - half) < 1.8] = rng.uniform(190, 240)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _tissue(rng: np.random.Generator, shape: tuple[int, int], level: float) -> np.ndarray:
    noise = rng.standard_normal(shape)
    speckle, broad = cv2.GaussianBlur(noise, (0, 0), 1.2), cv2.GaussianBlur(noise[::-1].copy(), (0, 0), 9)
    return np.asarray(level * (1 + 0.35 * speckle / speckle.std() + 0.15 * broad / broad.std()), np.float64)


def _cardiac_mr(rng: np.random.Generator, heart_HW: np.ndarray) -> np.ndarray:
    patient = make_mr_patient(int(rng.integers(1 << 30)))
    plane = short_axis_planes(patient)[4]
    signal_HW = np.asarray(scan_plane(patient, plane, Grid(), np.zeros(1))[0][0], float)
    return np.clip(255 * signal_HW / np.percentile(signal_HW, 99), 0, 255).astype(np.uint8)


def _report(rng: np.random.Generator, heart_HW: np.ndarray) -> np.ndarray:
    """A page of lines of letters and figures, dark on white or white on dark."""
    page = np.full((480, 640), 255, np.uint8)
    for row in range(40, 460, int(rng.integers(18, 30))):
        text = "".join(rng.choice(list("ABCDEFGHIKLMNOPRSTUV 0123456789.,:")) for _ in range(rng.integers(8, 45)))
        cv2.putText(page, text, (20, row), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 1, cv2.LINE_AA)
    return page if rng.random() < 0.5 else 255 - page


KINDS: dict[str, Draw] = {
    "black": _constant(0),
    "white": _constant(255),
    "noise": _noise,
    "frozen clips of hearts": _frozen,
    "hearts upside down (as transoesophageal)": _upside_down,
    "abdominal organs (drawn)": _abdominal,
    "carotid arteries (drawn)": _carotid,
    "cardiac MR (phantom)": _cardiac_mr,
    "report pages (drawn)": _report,
}


def study_of(frames: np.ndarray) -> Study:
    """Returns a study of frames (H, W) or (T, H, W), all of it a tissue region."""
    frames_THW = frames if frames.ndim == 3 else frames[None]
    count, rows, columns = frames_THW.shape
    region = Region("tissue", 0, 0, rows, columns)
    clip = Instance("outside", "US", count, rows, columns, Pixels(frames_THW), frame_time_ms=40.0, regions=(region,))
    return Study((clip,))


def scores(study: Study, model: runtimes.OpenModel) -> tuple[float, float, bool]:
    """Returns confidence and energy, both minus infinity for a picture that a check refuses, and True if it got a
    label."""
    task = model.bundle.task
    prepared = task.preprocess(study, model.bundle.preprocessing)
    logits = task.infer(lambda part: model.runtime.run(part).output, prepared)
    result = task.interpret(logits, study, prepared.place, model.thresholds)
    if prepared.place["doubt"]:
        return -1e9, -1e9, result.label is not None
    return float(result.confidence or 0), float(energy(logits.astype(float).mean(axis=0))), result.label is not None


def measure() -> None:
    hearts_NHW = pictures(WORK / "clinic-field", UNSEEN, FIELD).grey_NHW[: 10 * PER_KIND]
    model = runtimes.open(SHIPPED, runtimes.InferenceSettings(precision="f32"))
    known = [scores(study_of(heart_HW), model) for heart_HW in hearts_NHW]
    figures = [{"figure": "synthetic hearts, machines never seen: with a label", "value": _share(known)}]
    for number, (name, draw) in enumerate(KINDS.items()):
        rng = np.random.default_rng([number, 71])
        found = [scores(study_of(draw(rng, hearts_NHW[k])), model) for k in range(PER_KIND)]
        truth = [1] * len(known) + [0] * len(found)
        by_confidence, by_energy = (roc_auc_score(truth, [row[k] for row in known + found]) for k in (0, 1))
        labels = "0 %" if name in ("black", "white", "noise", "frozen clips of hearts") else ""
        expected = f"at least 0.95; {labels} with a label" if labels else "at least 0.95"
        value = f"{by_confidence:.3f}, {by_energy:.3f}; {_share(found)} with a label"
        figures.append({"figure": f"{name}: AUROC by confidence, by energy", "value": value, "expected": expected})
    text = (
        f"The shipped echo-view-image on {PER_KIND} pictures of each kind beside {len(known)} synthetic hearts. Hearts "
        "and MR are rendered by the phantom, the other kinds are drawn: real ones may be harder."
    )
    results.record("views-outside", "Echo views: pictures without a view", figures, conditions(), text)


def conditions() -> dict[str, object]:
    return machine.conditions("python -m benchmarks views-outside", 71)


def _share(rows: list[tuple[float, float, bool]]) -> str:
    return f"{100 * float(np.mean([row[2] for row in rows])):.1f} %"
