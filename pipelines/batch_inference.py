"""Pipeline `batch-inference`: a folder or a bucket of studies -> a table of answers, by the model that serves."""

from kfp import dsl

from components.batch.component import batch_part, batch_plan, batch_results
from components.phantom.component import phantom
from pipelines.cluster import SMALL, placed, reported, with_bucket

AT_ONCE = 2
"""Parts that are answered side by side: as many as kfp.local runs, and as a node of two cores holds."""


@dsl.pipeline(name="batch-inference", display_name="Batch inference: answer many studies")
def pipeline(
    root: str = "/echoplane",
    source: str = "",
    task: str = "echo-view-video",
    model: str = "champion",
    part_size: int = 100,
    study_timeout_s: int = 120,
    patients: int = 2,
    seed: int = 2,
    runtime: str = "",
    precision: str = "",
    tracking_uri: str = "",
    volume: str = "echoplane-data",
) -> None:
    """Answer every study of a folder or a bucket with the model that serves, and write the answers as one table.

    With the defaults it answers synthetic patients, so that a first run needs no data; it needs a champion, which the
    pipeline echo-view makes. A study that can't be answered has its reason in the table and stops nothing. File names
    stand in the table: give studies that are de-identified.

    Args:
        root: Folder under which all steps keep their data, on a volume that every step reaches.
        source: Folder of de-identified studies, or s3://BUCKET/PREFIX; all below it is read. Empty: synthetic patients.
        task: What is asked of each study: echo-view-video or cmr-segmentation (which needs a `source`).
        model: What answers: champion, previous, the number of a registered version, or the folder of a bundle.
        part_size: Studies that one step answers; an interrupted step goes on after its last answer.
        study_timeout_s: Seconds after which a study is given up, with that reason in the table.
        patients: Synthetic patients to make, twelve clips each. Not used where `source` is given.
        seed: Another number makes other synthetic patients.
        runtime: openvino or onnxruntime. Empty: the one on which the model was evaluated.
        precision: f32, bf16 or auto. Empty: the one at which the model was evaluated.
        tracking_uri: Address of the MLflow server. Empty: the variable MLFLOW_TRACKING_URI of the steps.
        volume: Claim of the volume that is mounted at /echoplane in every step. Not used on one machine.
    """
    with reported(root, volume):
        made = placed(phantom(root=root, patients=patients, seed=seed, frames=24, source=source), volume)
        planned = batch_plan(
            root=root,
            studies=made.outputs["studies"],
            source=source,
            task=task,
            model=model,
            tracking_uri=tracking_uri,
            runtime=runtime,
            precision=precision,
            part_size=part_size,
        )
        with_bucket(placed(planned, volume, SMALL))
        plan = planned.outputs["plan"]
        with dsl.ParallelFor(planned.outputs["Output"], parallelism=AT_ONCE, name="parts") as part:
            answered = batch_part(root=root, plan=plan, part=part, study_timeout_s=study_timeout_s)
            with_bucket(placed(answered, volume))
        gathered = batch_results(root=root, plan=plan, parts=dsl.Collected(answered.outputs["Output"]))
        placed(gathered, volume, SMALL)
