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
    """Runs the bundle on the unseen patients, on the runtime and at the precision that will serve it."""
    import shutil

    from echoplane.stages import evaluate
    from echoplane.stages.step import step

    with step("evaluate", root) as publish_manifest:
        inputs = {"studies": studies.path, "samples": samples.path, "bundle": bundle.path}
        config = evaluate.Config(root=root, **inputs, runtime=runtime, precision=precision)
        manifest = publish_manifest(evaluate.run(config), evaluation.path)
        record = evaluate.read_record(manifest)
        for name, value in evaluate.headline(record).items():
            metrics.log_metric(name, round(value, 4))
        confusion.log_confusion_matrix(record.details["confusion"]["labels"], record.details["confusion"]["counts"])
        shutil.copyfile(manifest.path / "report.html", report.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_without_confusion(
    root: str,
    studies: dsl.Input[dsl.Dataset],
    samples: dsl.Input[dsl.Dataset],
    bundle: dsl.Input[dsl.Model],
    runtime: str,
    precision: str,
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Evaluates a task without a confusion matrix: Kubeflow would show that output even if it were never filled."""
    import shutil

    from echoplane.stages import evaluate
    from echoplane.stages.step import step

    with step("evaluate", root) as publish_manifest:
        inputs = {"studies": studies.path, "samples": samples.path, "bundle": bundle.path}
        config = evaluate.Config(root=root, **inputs, runtime=runtime, precision=precision)
        manifest = publish_manifest(evaluate.run(config), evaluation.path)
        for name, value in evaluate.headline(evaluate.read_record(manifest)).items():
            metrics.log_metric(name, round(value, 4))
        shutil.copyfile(manifest.path / "report.html", report.path)
