"""A bundle small enough for tests: a real ONNX model of a few thousand weights, made without torch."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from echoplane.bundle import Code, Contents, Golden, InputShape, seal, write_golden
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.spec import MODEL, WEIGHTS, labels_of
from echoplane.tasks import by_name

TASK = "echo-view-video"
FRAMES, SIZE, FEATURES = 16, 64, 8
DATA_DIGEST = hashlib.sha256(b"tiny catalogue").hexdigest()
SPLIT_ID = "tiny-split"


def make_tiny_bundle(
    folder: Path,
    seed: int = 0,
    *,
    temperature: float = 1.5,
    abstain_below: float = 0.0,
    data_digest: str = DATA_DIGEST,
    split_id: str = SPLIT_ID,
) -> Path:
    """A sealed bundle of echo-view-video in `folder`, with random weights from `seed`; returns `folder`.

    The model: 8 x 8 cells' mean grey over time and space -> tanh features -> twelve logits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = _weights(seed)
    onnx.save(_model(weights), folder / MODEL)
    save_file(weights, folder / WEIGHTS)
    (folder / "card.md").write_text("# A tiny model for tests\n\nRandom weights.\n")
    task = by_name(TASK)
    preprocessing = task.Preprocessing()
    batch = task.preprocess(task.example(GOLDEN_SEED), preprocessing).batch
    write_golden(folder, Golden(batch, *forward(batch, weights)))
    seal(
        folder,
        Contents(
            task=TASK,
            labels=labels_of(TASK),
            preprocessing=preprocessing.model_dump(),
            network={},
            input=InputShape(shape=(FRAMES, SIZE, SIZE)),
            thresholds={"temperature": temperature, "abstain_below": abstain_below},
            data_digest=data_digest,
            split_id=split_id,
            code=Code(version="0", package_digest="0" * 64),
        ),
    )
    return folder


def forward(batch: np.ndarray, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same model in numpy: (output, embedding)."""
    cells = batch.astype(np.float32).reshape(len(batch), FRAMES, 8, 8, 8, 8).mean(axis=(1, 3, 5)) / 255
    embedding = np.tanh(cells.reshape(len(batch), 64) @ weights["features"])
    return embedding @ weights["logits"], embedding


def _weights(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = len(labels_of(TASK))
    return {
        "features": rng.normal(0, 1, (64, FEATURES)).astype(np.float32),
        "logits": rng.normal(0, 2, (FEATURES, labels)).astype(np.float32),
    }


def _model(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    labels = weights["logits"].shape[1]
    constants = {
        "cells_shape": np.array([-1, FRAMES, 8, 8, 8, 8], np.int64),
        "flat_shape": np.array([-1, 64], np.int64),
        "white": np.array(255, np.float32),
        **weights,
    }
    nodes = [
        helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "cells_shape"], ["cells"]),
        helper.make_node("ReduceMean", ["cells"], ["means"], axes=[1, 3, 5], keepdims=0),
        helper.make_node("Reshape", ["means", "flat_shape"], ["flat"]),
        helper.make_node("Div", ["flat", "white"], ["grey"]),
        helper.make_node("MatMul", ["grey", "features"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "logits"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["batch", FRAMES, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", labels]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", FEATURES]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
