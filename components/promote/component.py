"""Component `promote`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    root: str,
    bundle: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    policy: str,
    decision: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    reasons: dsl.Output[dsl.Markdown],
) -> None:
    """Registers the bundle in MLflow and applies the promotion gate; a refusal is a result, not an error."""
    import shutil

    from echoplane.stages import promote
    from echoplane.stages.outputs import Promotion
    from echoplane.stages.step import step

    with step("promote", root) as publish_manifest:
        config = promote.Config(
            root=root,
            bundle=bundle.path,
            evaluation=evaluation.path,
            policy=policy,
        )
        manifest = publish_manifest(promote.run(config), decision.path)
        made = manifest.stated(Promotion)
        metrics.log_metric("passed", float(made.passed))
        metrics.log_metric("checks_failed", len(made.refused_by))
        shutil.copyfile(manifest.path / "decision.md", reasons.path)
