"""Component `dataset`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dataset(
    root: str, studies: dsl.Input[dsl.Dataset], site: str, split: dict, samples: dsl.Output[dsl.Dataset]
) -> None:
    """Catalogue the labelled clips, split them by patient, and write the shards that training reads."""
    from echoplane.stages import dataset

    dataset.run(dataset.Config(root=root, studies=studies.path, site=site, split=split)).write(samples.path)
