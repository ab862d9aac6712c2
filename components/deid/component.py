"""Component `deid`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deid(
    root: str,
    studies: dsl.Input[dsl.Dataset],
    source: str,
    labels: str,
    feedback: str,
    key_file: str,
    policy: dict,
    deidentified: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Removes the patient's identity from every study; a file that cannot be cleared is set aside, never passed on."""
    from echoplane.stages import deid
    from echoplane.stages.outputs import Studies
    from echoplane.stages.step import step

    with step("deid", root) as publish_manifest:
        config = deid.Config(
            root=root,
            studies=studies.path,
            source=source,
            labels=labels,
            feedback=feedback,
            key_file=key_file,
            policy=policy,
        )
        made = publish_manifest(deid.run(config), deidentified.path).stated(Studies)
        metrics.log_metric("written", made.count)
        metrics.log_metric("quarantined", made.quarantined)
        metrics.log_metric("refused", made.refused)
