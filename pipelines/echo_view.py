"""Pipeline `echo-view`: from studies to a serving model, or to the reasons why it is not promoted.

With its defaults it makes synthetic patients and needs no data. The data lie under `root`, which every step must reach;
steps pass only manifests to each other.
"""

# ruff: noqa: B006 (KFP copies a default when it compiles, and None would be another type)
from kfp import dsl

from components.deid.component import deid
from components.phantom.component import phantom
from pipelines.cluster import TRAIN_RAY_PODS, with_deid_key, with_resources, with_run_summary
from pipelines.train_and_promote import Serving, Training, train_and_promote


@dsl.pipeline(name="echo-view", display_name="Echo view: train and promote")
def pipeline(
    root: str = "/echoplane",
    volume: str = "echoplane-data",
    synthetic_patients: int = 54,
    synthetic_seed: int = 1,
    synthetic_frames: int = 24,
    data_source: str = "",
    data_labels: str = "",
    data_feedback: str = "",
    data_site: str = "local",
    data_split: dict = {},
    deid_key_file: str = "",
    deid_policy: dict = {},
    train_start: dict = {},
    train_network: dict = {},
    train_augmentation: dict = {},
    train_settings: dict = {},
    train_workers: int = 2,
    train_gpu: bool = False,
    train_ray_pods: dict = TRAIN_RAY_PODS,
    serve_runtime: str = "openvino",
    serve_precision: str = "f32",
    gate_policy: str = "default",
) -> None:
    """Trains a model on the twelve views of an echo study, tests it on unseen patients, and promotes it if it passes.

    With the defaults it makes and uses synthetic patients, so that a first run needs no data.

    Args:
        root: Folder under which all steps keep their data, on a volume that every step reaches.
        synthetic_patients: Synthetic patients to make, twelve clips each. Not used if `data_source` is given.
        synthetic_seed: Seed of the synthetic patients.
        synthetic_frames: Frames of each synthetic clip.
        data_source: Folder of DICOM files, read with all its subfolders. Empty: synthetic patients are used.
        data_labels: CSV file with the columns file (relative to `data_source`) and view. Empty: ViewCodeSequence names
            the views.
        data_feedback: Folder or s3:// address with the service's feedback, which labels the gateway's copies in
            `data_source`. A patient of the test set keeps the labels that the files state. Empty: no feedback.
        data_site: Site of the studies, as the report's tables name it.
        data_split: Shares of the patient split that differ from the defaults, such as {"test": 0.3}.
        deid_key_file: File that holds the pseudonym key, mounted into the step. Empty: the variable
            ECHOPLANE_DEID_KEY.
        deid_policy: Settings of de-identification that differ from the defaults, such as {"dates": "remove"}.
        train_start: Bundle on the volume whose weights training starts from: {"bundle": FOLDER}, and
            "knows_no_patient": true if it has learnt from none of these patients. Empty: random weights.
        train_network: Settings of the network that differ from the defaults.
        train_augmentation: Settings of the augmentation that differ from the defaults.
        train_settings: Settings of training that differ from the defaults, such as {"steps": 1000}.
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
            patients=synthetic_patients,
            seed=synthetic_seed,
            frames=synthetic_frames,
            source=data_source,
        )
        with_resources(made, volume)
        cleared = deid(
            root=root,
            studies=made.outputs["studies"],
            source=data_source,
            labels=data_labels,
            feedback=data_feedback,
            key_file=deid_key_file,
            policy=deid_policy,
        )
        with_deid_key(with_resources(cleared, volume))
        train_and_promote(
            root,
            volume,
            cleared.outputs["deidentified"],
            {"site": data_site, "split": data_split},
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
            confusion=True,
        )
