"""Component `deid`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deid(
    root: str,
    studies: dsl.Input[dsl.Dataset],
    source: str,
    labels: str,
    key_file: str,
    policy: dict,
    deidentified: dsl.Output[dsl.Dataset],
) -> None:
    """Remove the patient from every study; what can't be cleared is set aside, never passed on."""
    from echoplane.stages import deid

    config = deid.Config(
        root=root, studies=studies.path, source=source, labels=labels, key_file=key_file, policy=policy
    )
    deid.run(config).write(deidentified.path)
