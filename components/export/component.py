"""Component `export`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export(
    root: str,
    samples: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Input[dsl.Model],
    bundle: dsl.Output[dsl.Model],
) -> None:
    """Calibrates the trained network on validation patients and writes it as a bundle: the folder that is served."""
    from echoplane.stages import export
    from echoplane.stages.step import step

    with step("export", root) as publish_manifest:
        config = export.Config(root=root, samples=samples.path, checkpoint=checkpoint.path)
        publish_manifest(export.run(config), bundle.path)
