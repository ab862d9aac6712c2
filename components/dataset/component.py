"""Component `dataset`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dataset(
    root: str,
    studies: dsl.Input[dsl.Dataset],
    site: str,
    split: dict,
    start: dict,
    samples: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    task: str = "echo-view-video",
    public: str = "",
) -> None:
    """Catalogues the studies, splits them by patient, and writes the shards that training reads."""
    from echoplane.stages import dataset
    from echoplane.stages.outputs import Samples
    from echoplane.stages.step import step

    with step("dataset", root) as publish_manifest:
        config = dataset.Config(
            root=root,
            studies=studies.path,
            task=task,
            public=public,
            start=start or None,
            site=site,
            split=split,
        )
        made = publish_manifest(dataset.run(config), samples.path).stated(Samples)
        for name, patients in made.patients.items():
            metrics.log_metric(f"patients_{name}", patients)
