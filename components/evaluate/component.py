"""Component `evaluate`."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    root: str,
    studies: dsl.Input[dsl.Dataset],
    samples: dsl.Input[dsl.Dataset],
    bundle: dsl.Input[dsl.Model],
    runtime: str,
    precision: str,
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Run the bundle on the unseen patients, on the runtime and at the precision that will serve it."""
    import json
    import shutil

    from echoplane.stages import evaluate
    from echoplane.stages.step import step

    with step("evaluate", root) as hand_on:
        config = evaluate.Config(
            root=root,
            studies=studies.path,
            samples=samples.path,
            bundle=bundle.path,
            runtime=runtime,
            precision=precision,
        )
        manifest = hand_on(evaluate.run(config), evaluation.path)
        found = json.loads((manifest.path / "evaluation.json").read_text())
        for name, value in evaluate.headline(found).items():
            metrics.log_metric(name, round(value, 4))
        if "confusion" in found:
            confusion.log_confusion_matrix(found["confusion"]["labels"], found["confusion"]["counts"])
        shutil.copyfile(manifest.path / "report.html", report.path)
