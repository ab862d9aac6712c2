"""A cine bundle small enough for tests: one convolution that finds bright blood, and a heart to find it in."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from safetensors.numpy import save_file

from echoplane.bundle import Code, Contents, Golden, InputShape, seal, write_golden
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.spec import MODEL, WEIGHTS, labels_of
from echoplane.study.mr_slices import MR_IMAGE
from echoplane.study.slice_groups import USUAL_AXIS
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation.structures import CLASSES, LV_CAVITY, MYOCARDIUM

SLOPE = np.array([0.0, 0.4, -0.4, -1.0, -1.0, -1.0], np.float32)
OFFSET = np.array([0.0, -60.0, 20.0, -99.0, -99.0, -99.0], np.float32)
"""Logits by grey: over 150 is cavity, under 50 myocardium, in between background."""

STUDY = "1.2.826.0.1.3680043.10.1"


def forward(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    grey = batch.astype(np.float32)
    output = grey[:, None] * SLOPE[None, :, None, None] + OFFSET[None, :, None, None]
    return output, grey.mean(axis=(1, 2))[:, None]


def make_tiny_cine_bundle(folder: Path, abstain_below: float = 0.5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_model(), folder / MODEL)
    save_file({"slope": SLOPE, "offset": OFFSET}, folder / WEIGHTS)
    (folder / "card.md").write_text("# A tiny model for tests\n")
    batch = task.preprocess(task.example(GOLDEN_SEED), task.Preprocessing()).batch
    write_golden(folder, Golden(batch, *forward(batch)))
    contents = Contents(
        task=task.NAME,
        labels=labels_of(task.NAME),
        preprocessing=task.Preprocessing().model_dump(mode="json"),
        network={},
        input=InputShape(shape=batch.shape[1:]),
        thresholds={"abstain_below": abstain_below},
        data_digest=hashlib.sha256(b"none").hexdigest(),
        split_id="none",
        code=Code(version="0", package_digest="0" * 64),
    )
    seal(folder, contents)
    return folder


def _model() -> onnx.ModelProto:
    names = ("slope", "offset")
    weights = [
        numpy_helper.from_array(v.reshape(1, CLASSES, 1, 1), n) for n, v in zip(names, (SLOPE, OFFSET), strict=True)
    ]
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    nodes = [
        helper.make_node("Cast", ["input"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["grey", "axis"], ["channel"]),
        helper.make_node("Mul", ["channel", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["output"]),
        helper.make_node("ReduceMean", ["grey"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["batch", "rows", "columns"])],
        [
            helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", CLASSES, "rows", "columns"]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 1]),
        ],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def beating_heart(phases: int = 12, slices: int = 5, size: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and labels (T, Z, H, W): bright discs in dark rings on grey, smallest in the middle of the beat."""
    row, column = np.mgrid[:size, :size]
    distance = np.hypot(row - size / 2 + 3, column - size / 2)
    labels = np.zeros((phases, slices, size, size), np.uint8)
    for t in range(phases):
        for z in range(slices):
            radius = (17 - 2 * z) * (1 - 0.3 * np.sin(np.pi * t / phases))
            labels[t, z][distance < radius + 5] = MYOCARDIUM
            labels[t, z][distance < radius] = LV_CAVITY
    noise = np.random.default_rng(0).integers(-6, 7, labels.shape)
    return (np.choose(labels, [100, 220, 12]) + noise).astype(np.uint8), labels


def slice_file(folder: Path, name: str, at_mm: float, time_ms: float, pixels: np.ndarray, **changes) -> None:
    """One MR slice on the heart's usual axis; `changes` overwrite attributes (None removes one)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MR_IMAGE
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    axis = changes.pop("axis", USUAL_AXIS / np.linalg.norm(USUAL_AXIS))
    right = np.cross([0, 0, 1.0], axis)
    right /= np.linalg.norm(right)
    file.update(
        {
            "SOPClassUID": MR_IMAGE, "StudyInstanceUID": STUDY,
            "SeriesInstanceUID": f"{STUDY}.1", "FrameOfReferenceUID": f"{STUDY}.2",
            "SOPInstanceUID": meta.MediaStorageSOPInstanceUID, "Modality": "MR",
            "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 1, "BitsAllocated": 16,
            "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2",
            "ImageOrientationPatient": [round(float(v), 8) for v in (*right, *np.cross(axis, right))],
            "ImagePositionPatient": [round(float(v), 8) for v in at_mm * axis + [5.0, -3, 2]],
            "PixelSpacing": [1.4, 1.3], "TriggerTime": time_ms, "InstanceNumber": 1, "SliceThickness": 8.0,
        }
    )  # fmt: skip
    for keyword, value in changes.items():
        if value is None:
            delattr(file, keyword)
        else:
            setattr(file, keyword, value)
    file.PixelData = pixels.astype(np.uint16).tobytes()
    file.save_as(folder / name, enforce_file_format=True)
