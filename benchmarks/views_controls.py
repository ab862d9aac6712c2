"""Controls of echo-view-image: what it reads once the evidence is gone, `python -m benchmarks views-controls`.

Synthetic hearts that no network has seen. Masked: the sector's pixels become one grey, so that only its outline is
left. Shuffled: a network trained on labels that were exchanged at random. Header alone: the type of the region, without
pixels. Axes: N picture.
"""

from dataclasses import replace

import numpy as np

from benchmarks import machine, results
from benchmarks.views_outside import study_of
from benchmarks.views_pictures import COLUMNS, FIELD, ROWS, Pictures, pictures
from benchmarks.views_scores import SHIPPED, logits, right
from benchmarks.views_training import AUGMENTATION, CONFIG, NETWORK, UNSEEN, WORK, samples
from echoplane import runtimes
from echoplane.binomial import exact_interval
from echoplane.study.study import Study
from echoplane.study.views import IMAGE_VIEWS, STILL_VIEWS
from echoplane.tasks import learning as learning_of
from echoplane.tasks import probabilities_of, view_image
from echoplane.training.loop import train

SHUFFLED = CONFIG.model_copy(update={"steps": 100, "epoch_steps": 100, "shuffle_labels_seed": 0})
"""A short training on shuffled labels."""
STRIPS = tuple(view.name for view in STILL_VIEWS)


def masked(data: Pictures) -> Pictures:
    """Returns the pictures with one grey inside the sector and black around it."""
    lit_NHW = data.grey_NHW > 0
    return replace(data, grey_NHW=np.where(lit_NHW, np.uint8(90), np.uint8(0)))


def answers(data: Pictures, model: runtimes.OpenModel) -> np.ndarray:
    """Returns the top label of each picture, whatever the threshold."""
    found = [probabilities_of(runtimes.answer(study_of(grey_HW), model).result) for grey_HW in data.grey_NHW]
    return np.array([view_image.names().index(max(each, key=each.__getitem__)) for each in found])


def header_alone(data: Pictures) -> np.ndarray:
    """Returns the label that the region's type gives; views of tissue are all the first of them."""
    said = [view_image.view_in_header(study_of_kind(IMAGE_VIEWS[label].name).only) for label in data.label_N]
    return np.array([view_image.names().index(name or IMAGE_VIEWS[0].name) for name in said])


def study_of_kind(view: str) -> Study:
    """Returns a black still whose region is of the type of `view`."""
    study = study_of(np.zeros((ROWS, COLUMNS), np.uint8))
    region = replace(study.only.regions[0], kind=view if view in STRIPS else "tissue")
    return replace(study, instances=(replace(study.only, regions=(region,)),))


def measure() -> None:
    data = pictures(WORK / "clinic-field", UNSEEN, FIELD)
    tissue = Pictures(*(part[data.label_N < len(IMAGE_VIEWS) - len(STRIPS)] for part in (data.grey_NHW, data.label_N)))
    model = runtimes.open(SHIPPED, runtimes.InferenceSettings(precision="f32"))
    trained = train(learning_of(view_image.NAME), samples(), SHUFFLED, network=NETWORK, augmentation=AUGMENTATION)
    by_chance = right(logits([trained.weights], NETWORK, data), data)
    figures = [
        _figure("as they are", answers(data, model) == data.label_N, ""),
        _figure("views of tissue, sector masked", answers(masked(tissue), model) == tissue.label_N, "about 0.083"),
        _figure("trained on shuffled labels", by_chance, "about 0.067"),
        _figure("header alone", header_alone(data) == data.label_N, "each strip, 1 in 12 of the others"),
    ]
    text = "Accuracy of the top answer on synthetic hearts of machines never seen, with its 95 % interval."
    conditions = machine.conditions("python -m benchmarks views-controls", 0)
    results.record("views-controls", "Echo views: controls", figures, conditions, text)


def _figure(name: str, correct_N: np.ndarray, expected: str) -> dict[str, str]:
    low, high = exact_interval(int(correct_N.sum()), len(correct_N))
    value = f"{correct_N.mean():.3f} ({low:.3f} to {high:.3f}), n {len(correct_N)}"
    return {"figure": name, "value": value, "expected": expected}
