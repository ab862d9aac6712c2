"""Component `train`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    root: str,
    samples: dsl.Input[dsl.Dataset],
    start: dict,
    network: dict,
    augmentation: dict,
    training: dict,
    workers: int,
    gpu: bool,
    cluster: dict,
    checkpoint: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Trains the task's network with Ray; an interrupted run resumes from its last checkpoint."""
    from echoplane.stages import train
    from echoplane.stages.outputs import Trained
    from echoplane.stages.step import step

    with step("train", root) as publish_manifest:
        config = train.Config(
            root=root,
            samples=samples.path,
            start=start or None,
            network=network,
            augmentation=augmentation,
            training=training,
            workers=workers,
            gpu=gpu,
            cluster=cluster,
        )
        trained = publish_manifest(train.run(config), checkpoint.path).stated(Trained)
        for name, value in trained.last.items():
            metrics.log_metric(name, value)
