"""Components of `batch`: the plan, the answers of one part, the tables."""

from typing import List  # noqa: UP035 (Kubeflow's compiler reads the annotation)

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def batch_plan(
    root: str,
    studies: dsl.Input[dsl.Dataset],
    source: str,
    task: str,
    model: str,
    runtime: str,
    precision: str,
    part_size: int,
    plan: dsl.Output[dsl.Artifact],
) -> List[str]:  # noqa: UP006
    """Lists the studies, pins the model that answers them, divides them into parts and returns the parts' numbers."""
    from echoplane.stages import batch
    from echoplane.stages.step import step

    with step("batch_plan", root) as publish_manifest:
        config = batch.PlanConfig(
            root=root,
            studies=studies.path,
            source=source,
            task=task,
            model=model,
            runtime=runtime,
            precision=precision,
            part_size=part_size,
        )
        return batch.part_numbers(publish_manifest(batch.plan(config), plan.path))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def batch_part(
    root: str,
    plan: dsl.Input[dsl.Artifact],
    part: str,
    study_timeout_s: int,
    rows: dsl.Output[dsl.Artifact],
) -> str:
    """Answers the studies of one part; a study that cannot be answered gets its reason. Returns the manifest."""
    from echoplane.stages import batch
    from echoplane.stages.step import step

    with step("batch_part", root) as publish_manifest:
        config = batch.PartConfig(root=root, plan=plan.path, part=part, study_timeout_s=study_timeout_s)
        return str(publish_manifest(batch.part(config), rows.path).path / "manifest.json")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def batch_results(
    root: str,
    plan: dsl.Input[dsl.Artifact],
    parts: List[str],  # noqa: UP006
    results: dsl.Output[dsl.Artifact],
    table: dsl.Output[dsl.Dataset],
    answers: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Gathers all parts into results.csv (`table`), results.json (`answers`) and a page, without names of files."""
    import shutil

    from echoplane.stages import batch
    from echoplane.stages.outputs import Answers
    from echoplane.stages.step import step

    with step("batch_results", root) as publish_manifest:
        manifest = publish_manifest(
            batch.results(batch.ResultsConfig(root=root, plan=plan.path, parts=parts)), results.path
        )
        for name, count in manifest.stated(Answers).model_dump(exclude={"kind"}).items():
            metrics.log_metric(name, count)
        # Kubeflow's store is read by many; names of files, which may name patients, stay on the volume
        published = manifest.path / batch.PUBLISHED
        shutil.copyfile(published / "results.csv", table.path)
        shutil.copyfile(published / "results.json", answers.path)
        shutil.copyfile(published / "report.html", report.path)
