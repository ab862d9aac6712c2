"""Component `phantom`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def phantom(
    root: str,
    patients: int,
    seed: int,
    frames: int,
    source: str,
    studies: dsl.Output[dsl.Dataset],
    kind: str = "echo",
) -> None:
    """Makes synthetic patients, so that a run needs no data; none if `source` is given: cine MR there is ingested."""
    from echoplane.stages import phantom
    from echoplane.stages.step import step

    with step("phantom", root) as publish_manifest:
        config = phantom.Config(root=root, kind=kind, patients=patients, seed=seed, frames=frames, source=source)
        publish_manifest(phantom.run(config), studies.path)
