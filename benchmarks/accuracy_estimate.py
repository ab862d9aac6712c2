"""Error of the accuracy that is estimated without labels, for the shipped echo-view-image on synthetic pictures.

python -m benchmarks accuracy-estimate      # minutes on one core

The estimate is fitted as `export` fits it, on as many studies, and tried on other hearts whose pictures are corrupted
as at fitting, by other severities, and in ways that it was not fitted on. Axes: N picture, H row, W column, K label.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from benchmarks import machine, results
from benchmarks.views_pictures import Pictures, pictures
from benchmarks.views_scores import SHIPPED, softmax_at
from echoplane.bundle import read
from echoplane.bundle.accuracy_fit import MAX_STUDIES, SEVERITIES
from echoplane.bundle.accuracy_model import CLEAN, WINDOW, AccuracyModel, Condition, estimated, fit
from echoplane.bundle.corruptions import KINDS, Corruption
from echoplane.bundle.embeddings import centre_and_scale, distances
from echoplane.bundle.spec import MODEL
from echoplane.tasks import view_image

FITTING, TRIED = range(9_000, 9_025), range(9_200, 9_300)
"""Groups of pictures; training took others."""
TRIED_SEVERITIES = (0.35, 0.7, 0.9)
WORK = results.CHECKOUT / "build" / "bench" / "accuracy_pictures"
Answers = tuple[np.ndarray, np.ndarray]


def _jpeg(grey_NHW: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    quality = [cv2.IMWRITE_JPEG_QUALITY, round(40 - 37 * severity)]
    codes = [cv2.imencode(".jpg", image, quality)[1] for image in grey_NHW]
    return np.stack([cv2.imdecode(code, cv2.IMREAD_GRAYSCALE) for code in codes])


def _gamma(grey_NHW: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    exponent = 3.0 ** (severity * rng.choice((-1, 1), len(grey_NHW)))
    return np.rint(255 * (grey_NHW / 255) ** exponent[:, None, None]).astype(np.uint8)


def _rotation(grey_NHW: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    rows, columns = grey_NHW.shape[1:]
    angles = 40 * severity * rng.choice((-1, 1), len(grey_NHW))
    turns = [cv2.getRotationMatrix2D((columns / 2, rows / 2), angle, 1) for angle in angles]
    return np.stack([cv2.warpAffine(image, turn, (columns, rows)) for image, turn in zip(grey_NHW, turns, strict=True)])


def _cut(grey_NHW: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Enlarges the middle, as a depth that is set too small."""
    rows, columns = grey_NHW.shape[1:]
    y, x = round(0.2 * severity * rows), round(0.2 * severity * columns)
    return np.stack([cv2.resize(image[y : rows - y, x : columns - x], (columns, rows)) for image in grey_NHW])


def _dead_pixels(grey_NHW: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    wrong_NHW = rng.random(grey_NHW.shape) < 0.2 * severity
    return np.where(wrong_NHW, rng.choice(np.array((0, 255), np.uint8), grey_NHW.shape), grey_NHW)


def _haze(grey_NHW: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Brightens the near half, as a veil of reverberations."""
    veil_H = 200 * severity * np.clip(1 - np.arange(grey_NHW.shape[1]) / (grey_NHW.shape[1] / 2), 0, 1)
    lit_NHW = grey_NHW > 0
    return np.clip(grey_NHW + veil_H[:, None] * lit_NHW, 0, 255).astype(np.uint8)


UNSEEN_KINDS: Mapping[str, Corruption] = {
    "JPEG": _jpeg,
    "gamma": _gamma,
    "rotation": _rotation,
    "cut edges": _cut,
    "dead pixels": _dead_pixels,
    "haze": _haze,
}


def measure(work: Path = WORK) -> None:
    """Renders the pictures, fits, and records the errors."""
    small = [_at_input_size(pictures(work / name, seeds)) for name, seeds in (("fit", FITTING), ("tried", TRIED))]
    fitting, tried = _thinned(small[0], MAX_STUDIES), _thinned(small[1], WINDOW)
    network, temperature = _network(SHIPPED)

    def answered(data: Pictures, change: Corruption | None = None, severity: float = 0.0) -> Answers:
        logits_NK, embedding_NF = network(_changed(data.grey_NHW, change, severity) if change else data.grey_NHW)
        return softmax_at(logits_NK, temperature), embedding_NF

    model = _fitted(fitting, answered)
    figures = [
        _figure("kinds seen at fitting, other severities", KINDS, model, tried, answered, expected=2),
        _figure("kinds not seen at fitting", UNSEEN_KINDS, model, tried, answered, expected=4),
        {
            "figure": "error that the estimate states: seen, unseen (points)",
            "value": f"{100 * model.error_seen:.1f}, {100 * model.error_unseen:.1f}",
        },
        {"figure": "accuracy on clean studies: fitting, tried", "value": _clean(model, tried, answered)},
    ]
    text = (
        f"The shipped echo-view-image; the estimate is fitted on {len(fitting.label_N)} synthetic studies, and each "
        f"window is {len(tried.label_N):,} others. Errors are over windows whose accuracy is said to be known."
    )
    command = "python -m benchmarks accuracy-estimate"
    results.record("accuracy-estimate", "Accuracy without labels", figures, machine.conditions(command, 0), text)
    print(*(f"{one['figure']}: {one['value']}" for one in figures), sep="\n")


def _changed(grey_NHW: np.ndarray, change: Corruption, severity: float) -> np.ndarray:
    """Returns each picture corrupted by itself."""
    rngs = map(np.random.default_rng, range(len(grey_NHW)))
    return np.concatenate([change(one[None], severity, rng) for one, rng in zip(grey_NHW, rngs, strict=True)])


def _at_input_size(data: Pictures) -> Pictures:
    rows, columns = data.grey_NHW.shape[1:]
    size = (columns // 2, rows // 2)
    halves = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in data.grey_NHW]
    return Pictures(np.stack(halves), data.label_N)


def _thinned(data: Pictures, count: int) -> Pictures:
    """Returns `count` pictures drawn at random; a fixed step would leave views out, whose order repeats."""
    rows = np.random.default_rng(0).permutation(len(data.label_N))[:count]
    return Pictures(data.grey_NHW[rows], data.label_N[rows])


def _network(bundle: Path) -> tuple[Callable[[np.ndarray], Answers], float]:
    """Returns the shipped network, which maps pictures to logits and embeddings, and its temperature."""
    session = onnxruntime.InferenceSession(bundle / MODEL, providers=["CPUExecutionProvider"])

    def run(grey_NHW: np.ndarray) -> Answers:
        parts = np.array_split(grey_NHW, max(1, len(grey_NHW) // 100))
        found = [session.run(["output", "embedding"], {"input": part}) for part in parts]
        return np.concatenate([logits for logits, _ in found]), np.concatenate([embedding for _, embedding in found])

    return run, view_image.Thresholds.model_validate(read(bundle).spec.thresholds).temperature


def _fitted(data: Pictures, answered: Callable[..., Answers]) -> AccuracyModel:
    """Returns the estimate as `export` fits it."""
    clean_NK, embedding_NF = answered(data)
    centre, scale = centre_and_scale(embedding_NF)
    conditions = [_condition(CLEAN, data, (clean_NK, embedding_NF), centre, scale)]
    for kind, change in KINDS.items():
        for severity in SEVERITIES:
            conditions.append(_condition(kind, data, answered(data, change, severity), centre, scale))
    return fit(conditions, centre, scale)


def _condition(kind: str, data: Pictures, answers: Answers, centre: np.ndarray, scale: np.ndarray) -> Condition:
    probabilities_NK, embedding_NF = answers
    correct_N = probabilities_NK.argmax(axis=1) == data.label_N
    return Condition(kind, probabilities_NK, correct_N, distances(embedding_NF, centre, scale))


def _figure(
    what: str,
    kinds: Mapping[str, Corruption],
    model: AccuracyModel,
    data: Pictures,
    answered: Callable[..., Answers],
    expected: int,
) -> dict[str, str]:
    errors, unknown = {}, []
    for kind, change in kinds.items():
        for severity in TRIED_SEVERITIES:
            error = _error(model, data, answered(data, change, severity))
            if error is None:
                unknown.append(f"{kind} {severity}")
            else:
                errors[f"{kind} {severity}"] = error
    worst = max(errors, key=lambda one: errors[one])
    value = (
        f"{np.mean(list(errors.values())):.1f}; largest {errors[worst]:.1f} ({worst}); known in {len(errors)} windows"
    )
    value += f", not known in {len(unknown)}: {', '.join(unknown)}" if unknown else ""
    return {"figure": f"mean error, {what} (points)", "value": value, "expected": f"at most {expected}"}


def _error(model: AccuracyModel, data: Pictures, answers: Answers) -> float | None:
    """Returns the error in points; None if the estimate says that it can't be known."""
    found = _condition("", data, answers, np.array(model.centre), np.array(model.scale))
    estimate = estimated(model, found.probabilities_NK, found.distance_N)
    return None if estimate.accuracy is None else 100 * abs(estimate.accuracy - float(found.correct_N.mean()))


def _clean(model: AccuracyModel, data: Pictures, answered: Callable[..., Answers]) -> str:
    probabilities_NK, _ = answered(data)
    return f"{model.accuracy:.3f}, {(probabilities_NK.argmax(axis=1) == data.label_N).mean():.3f}"


if __name__ == "__main__":
    measure()
