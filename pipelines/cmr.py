"""Pipeline `cmr`: from cine MR with masks to a serving model that measures hearts, or to the reasons why it is not
promoted.

With its defaults it makes synthetic patients and needs no data. The data lie under `root`, which every step must reach;
steps pass only manifests to each other.
"""

# ruff: noqa: B006 (KFP copies a default when it compiles, and None would be another type)
from kfp import dsl

from components.phantom.component import phantom
from pipelines.cluster import TRAIN_RAY_PODS, with_resources, with_run_summary
from pipelines.train_and_promote import Serving, Training, train_and_promote

TASK = "cmr-segmentation"


@dsl.pipeline(name="cmr", display_name="Cine MR: train and promote")
def pipeline(
    root: str = "/echoplane",
    volume: str = "echoplane-data",
    synthetic_patients: int = 54,
    synthetic_seed: int = 1,
    synthetic_frames: int = 8,
    data_source: str = "",
    data_public: str = "",
    data_site: str = "local",
    data_split: dict = {},
    train_start: dict = {},
    train_network: dict = {},
    train_augmentation: dict = {},
    train_settings: dict = {"steps": 1200, "epoch_steps": 100, "batch": 16, "weight_decay": 0.02, "warmup": 0.1},
    train_workers: int = 2,
    train_gpu: bool = False,
    train_ray_pods: dict = TRAIN_RAY_PODS,
    serve_runtime: str = "openvino",
    serve_precision: str = "f32",
    gate_policy: str = "default",
) -> None:
    """Trains a model on the chambers of the heart of cine MR, tests it on unseen patients, promotes it if it passes.

    With the defaults it makes and uses synthetic patients, so that a first run needs no data.

    Args:
        root: Folder under which all steps keep their data, on a volume that every step reaches.
        synthetic_patients: Synthetic patients to make: one short axis stack and both long axis cines each, with exact
            masks. Not used if `data_source` is given.
        synthetic_seed: Seed of the synthetic patients.
        synthetic_frames: Phases of each synthetic cine.
        data_source: Folder of cine MR with masks, with one folder per study. Empty: synthetic patients are used.
        data_public: Publisher of the studies in `data_source`, who has removed their patients' identity: no step here
            removes it.
        data_site: Site of the studies, as the report's tables name it.
        data_split: Shares of the patient split that differ from the defaults, such as {"test": 0.3}.
        train_start: Bundle on the volume whose weights training starts from: {"bundle": FOLDER}, and
            "knows_no_patient": true if it has learnt from none of these patients. Empty: random weights.
        train_network: Settings of the network that differ from the defaults, such as {"kind": "fcn", "width": 16}.
        train_augmentation: Settings of the augmentation that differ from the defaults.
        train_settings: Settings of training that differ from the defaults.
        train_workers: Processes that train together. Without a GPU: as many as cores.
        train_gpu: True gives each of these processes a GPU.
        train_ray_pods: Ray pods to train on: {"volume": "echoplane-data"}, optionally "cpu" of a worker (1),
            "head_cpu" (0.25), "memory_gib" of each pod (4), "node_selector", "tolerations". Empty: the step trains in
            its own pod.
        serve_runtime: Runtime that will serve the model: openvino or onnxruntime. The evaluation uses the same.
        serve_precision: f32, bf16 or auto: the precision at which the model is evaluated and served.
        gate_policy: Path of a YAML policy that a model must meet to serve, or "default" for the one of echoplane.
        volume: Claim of the volume that is mounted at /echoplane in every step. Not used on one machine.
    """
    with with_run_summary(root, volume):
        made = phantom(
            root=root,
            kind="cmr",
            patients=synthetic_patients,
            seed=synthetic_seed,
            frames=synthetic_frames,
            source=data_source,
        )
        with_resources(made, volume)
        train_and_promote(
            root,
            volume,
            made.outputs["studies"],
            {"task": TASK, "public": data_public, "site": data_site, "split": data_split},
            Training(
                train_start,
                train_network,
                train_augmentation,
                train_settings,
                train_workers,
                train_gpu,
                train_ray_pods,
            ),
            Serving(serve_runtime, serve_precision, gate_policy),
            confusion=False,
        )
