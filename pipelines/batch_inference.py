"""Pipeline `batch-inference`: reads a folder or a bucket of studies and writes a table of answers by the serving
model."""

from kfp import dsl

from components.batch.component import batch_part, batch_plan, batch_results
from components.phantom.component import phantom
from pipelines.cluster import SMALL, with_resources, with_run_summary, with_s3_credentials

AT_ONCE = 2
"""Number of parts that are answered at the same time: as many as kfp.local runs, and as a node of two cores holds."""


@dsl.pipeline(name="batch-inference", display_name="Batch inference: answer many studies")
def pipeline(
    root: str = "/echoplane",
    volume: str = "echoplane-data",
    data_source: str = "",
    model: str = "champion",
    model_task: str = "echo-view-video",
    model_runtime: str = "",
    model_precision: str = "",
    batch_part_size: int = 100,
    batch_study_timeout_s: int = 120,
    synthetic_patients: int = 2,
    synthetic_seed: int = 2,
) -> None:
    """Answers every study of a folder or a bucket with the serving model, and writes the answers as one table.

    With the defaults it answers synthetic patients, so that a first run needs no data; it needs a champion, which the
    pipeline echo-view makes. A study that cannot be answered gets its reason in the table and does not stop the run.
    The table contains file names: use de-identified studies.

    Args:
        root: Folder under which all steps keep their data, on a volume that every step reaches.
        volume: Claim of the volume that is mounted at /echoplane in every step. Not used on one machine.
        data_source: Folder of de-identified studies, or s3://BUCKET/PREFIX; all below it is read. Empty: synthetic
            patients.
        model: Model that answers: champion, previous, the number of a registered version, or the folder of a bundle.
        model_task: Task that answers each study: echo-view-video or cmr-segmentation (which needs a `data_source`).
        model_runtime: openvino or onnxruntime. Empty: the one on which the model was evaluated.
        model_precision: f32, bf16 or auto. Empty: the one at which the model was evaluated.
        batch_part_size: Studies that one step answers; an interrupted step resumes after its last answer.
        batch_study_timeout_s: Seconds after which a study is abandoned, with that reason in the table.
        synthetic_patients: Synthetic patients to make, twelve clips each. Not used if `data_source` is given.
        synthetic_seed: Seed of the synthetic patients.
    """
    with with_run_summary(root, volume):
        made = phantom(root=root, patients=synthetic_patients, seed=synthetic_seed, frames=24, source=data_source)
        planned = batch_plan(
            root=root,
            studies=with_resources(made, volume).outputs["studies"],
            source=data_source,
            task=model_task,
            model=model,
            runtime=model_runtime,
            precision=model_precision,
            part_size=batch_part_size,
        )
        with_s3_credentials(with_resources(planned, volume, SMALL))
        plan = planned.outputs["plan"]
        with dsl.ParallelFor(planned.outputs["Output"], parallelism=AT_ONCE, name="parts") as part:
            answered = batch_part(root=root, plan=plan, part=part, study_timeout_s=batch_study_timeout_s)
            with_s3_credentials(with_resources(answered, volume))
        gathered = batch_results(root=root, plan=plan, parts=dsl.Collected(answered.outputs["Output"]))
        with_resources(gathered, volume, SMALL)
