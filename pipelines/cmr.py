"""Pipeline `cmr`: from cine MR with masks to a model that measures hearts, or to the reasons why it does not serve.

With its defaults it makes synthetic patients and needs no data. The data lie under `root`, which every step must
reach; what passes between steps are manifests.
"""

# ruff: noqa: B006 (KFP copies a default when it compiles, and None would be another type)
from kfp import dsl

from components.dataset.component import dataset
from components.evaluate.component import evaluate
from components.export.component import export
from components.phantom.component import phantom
from components.promote.component import promote
from components.train.component import train
from pipelines.cluster import TRAINING, on_nodes, placed, reported

TASK = "cmr-segmentation"


@dsl.pipeline(name="cmr", display_name="Cine MR: train and promote")
def pipeline(
    root: str = "/echoplane",
    patients: int = 54,
    seed: int = 1,
    frames: int = 8,
    source: str = "",
    public: str = "",
    site: str = "local",
    split: dict = {},
    network: dict = {},
    augmentation: dict = {},
    training: dict = {"steps": 1200, "epoch_steps": 100, "batch": 16, "weight_decay": 0.02, "warmup": 0.1},
    workers: int = 2,
    gpu: bool = False,
    cluster: dict = {},
    runtime: str = "openvino",
    precision: str = "f32",
    gate_policy: str = "default",
    tracking_uri: str = "",
    volume: str = "echoplane-data",
    node_selector: dict = {},
    tolerations: list = [],
) -> None:
    """Teach a model the chambers of the heart on cine MR, test it on unseen patients, promote it if it is good enough.

    With the defaults it makes and uses synthetic patients, so that a first run needs no data.

    Args:
        root: Folder under which all steps keep their data, on a volume that every step reaches.
        patients: Synthetic patients to make: a short axis stack and both long axis cines each, with exact masks.
            Not used where `source` is given.
        seed: Another number makes other synthetic patients.
        frames: Phases of each synthetic cine.
        source: Folder of your own cine MR with masks, a folder a study. Empty: synthetic patients are used.
        public: Who published the studies in `source` without their patients' identity: nothing here removes it.
        site: Where the studies come from, as the report's tables name it.
        split: How patients are divided, where it differs from the defaults, such as {"test": 0.3}.
        network: Settings of the network that differ from the defaults, such as {"kind": "fcn", "width": 16}.
        augmentation: Settings of the augmentation that differ from the defaults.
        training: Settings of training that differ from the defaults.
        workers: Processes that train together. Without a GPU: as many as cores.
        gpu: Whether each of them gets a GPU.
        cluster: Ray pods to train on, such as {"volume": "echoplane-data"}. Empty: the step trains by itself.
        runtime: What will serve the model: openvino or onnxruntime. It is evaluated on the same.
        precision: f32, bf16 or auto: the precision at which the model is evaluated and served.
        gate_policy: Path of a YAML policy that a model must meet to serve, or "default" for the one of echoplane.
        tracking_uri: Address of the MLflow server. Empty: the variable MLFLOW_TRACKING_URI of the steps.
        volume: Claim of the volume that is mounted at /echoplane in every step. Not used on one machine.
        node_selector: Labels of the nodes that may run the training step, such as {"gpu": "true"}.
        tolerations: Taints on which the training step may stand, as Kubernetes writes them in a list.
    """
    with reported(root, volume):
        made = placed(
            phantom(root=root, kind="cmr", patients=patients, seed=seed, frames=frames, source=source), volume
        )
        studies = made.outputs["studies"]
        prepared = dataset(root=root, studies=studies, task=TASK, public=public, site=site, split=split)
        placed(prepared, volume)
        samples = prepared.outputs["samples"]
        trained = train(
            root=root,
            samples=samples,
            network=network,
            augmentation=augmentation,
            training=training,
            workers=workers,
            gpu=gpu,
            cluster=cluster,
        )
        on_nodes(placed(trained, volume, TRAINING), node_selector, tolerations)
        exported = placed(export(root=root, samples=samples, checkpoint=trained.outputs["checkpoint"]), volume)
        bundle = exported.outputs["bundle"]
        tested = evaluate(
            root=root, studies=studies, samples=samples, bundle=bundle, runtime=runtime, precision=precision
        )
        placed(tested, volume)
        decided = promote(
            root=root,
            bundle=bundle,
            evaluation=tested.outputs["evaluation"],
            tracking_uri=tracking_uri,
            policy=gate_policy,
        )
        placed(decided, volume)
