"""TensorRT parses and builds every export: a warning is a failure, since it may mean other numbers.

TensorRT for RTX builds engines without a GPU. It has an environment of its own, which `make setup-tensorrt` fills.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from echoplane import tasks
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.export import to_onnx
from echoplane.stages.measure import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "build" / "tensorrt" / "bin" / "python"
SCRIPT = ROOT / "tests" / "tensorrt_build.py"
needs_tensorrt = pytest.mark.skipif(
    not (ROOT / "build" / "tensorrt" / ".complete").exists(),
    reason="TensorRT is not installed; `make setup-tensorrt` does so (90 MB)",
)


def built(path: Path) -> dict[str, Any]:
    done = subprocess.run([PYTHON, SCRIPT, path], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@needs_tensorrt
def test_the_shipped_bundle_builds_without_a_warning() -> None:
    found = built(SHIPPED / "model.onnx")
    assert found["complaints"] == []
    assert found["engine_bytes"] > 1_000_000


@needs_tensorrt
@pytest.mark.parametrize("name", tasks.BUILT_IN)
def test_the_export_of_each_task_builds_without_a_warning(tmp_path: Path, name: str) -> None:
    task, half = tasks.by_name(name), tasks.learning(name)
    batch = task.preprocess(task.example(GOLDEN_SEED), task.Preprocessing()).batch
    module = half.network(half.Network()).eval()
    free_sides = task.TRUTH == "masks"
    (tmp_path / "model.onnx").write_bytes(to_onnx(module, batch, free_sides=free_sides))
    found = built(tmp_path / "model.onnx")
    assert found["complaints"] == []
    assert found["engine_bytes"] > 0


@needs_tensorrt
def test_a_model_that_moves_uint8_before_the_cast_is_refused(tmp_path: Path) -> None:
    import torch

    class Late(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            grey = x[:, None].float()
            return grey, grey.mean(dim=(2, 3))

    (tmp_path / "model.onnx").write_bytes(to_onnx(Late(), torch.zeros((1, 8, 8), dtype=torch.uint8).numpy()))
    assert any("UInt8" in line for line in built(tmp_path / "model.onnx")["complaints"])
