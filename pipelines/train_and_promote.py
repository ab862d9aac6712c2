"""The steps that every pipeline shares once the studies are there: dataset, train, export, evaluate, promote."""

from dataclasses import dataclass
from typing import Any

from components.dataset.component import dataset
from components.evaluate.component import evaluate, evaluate_without_confusion
from components.export.component import export
from components.promote.component import promote
from components.train.component import train
from pipelines.cluster import TRAINING, with_resources, with_signing_key


@dataclass(frozen=True)
class Training:
    """Parameters of the step `train`, as the pipeline got them."""

    start: Any
    network: Any
    augmentation: Any
    settings: Any
    workers: Any
    gpu: Any
    ray_pods: Any


@dataclass(frozen=True)
class Serving:
    """Parameters of the steps `evaluate` and `promote`: what will serve the model, and what it must meet."""

    runtime: Any
    precision: Any
    policy: Any


def train_and_promote(
    root: Any,
    volume: Any,
    studies: Any,
    samples: dict[str, Any],
    training: Training,
    serving: Serving,
    *,
    confusion: bool,
) -> None:
    """Adds the five steps to the pipeline that is being defined.

    `studies` is the output of the step that made or cleared the studies; `samples` holds the parameters of the step
    `dataset`. `confusion` says whether the task has a confusion matrix for Kubeflow to show.
    """
    made = dataset(root=root, studies=studies, start=training.start, **samples)
    prepared = with_resources(made, volume).outputs["samples"]
    trained = train(
        root=root,
        samples=prepared,
        start=training.start,
        network=training.network,
        augmentation=training.augmentation,
        training=training.settings,
        workers=training.workers,
        gpu=training.gpu,
        cluster=training.ray_pods,
    )
    with_resources(trained, volume, TRAINING)
    exported = export(root=root, samples=prepared, checkpoint=trained.outputs["checkpoint"])
    bundle = with_resources(exported, volume).outputs["bundle"]
    evaluated = (evaluate if confusion else evaluate_without_confusion)(
        root=root,
        studies=studies,
        samples=prepared,
        bundle=bundle,
        runtime=serving.runtime,
        precision=serving.precision,
    )
    with_resources(evaluated, volume).set_display_name("evaluate")
    decided = promote(root=root, bundle=bundle, evaluation=evaluated.outputs["evaluation"], policy=serving.policy)
    with_signing_key(with_resources(decided, volume))
