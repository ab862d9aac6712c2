"""Text detection network for lines of any size, direction and polarity: PP-OCRv4 mobile of PaddleOCR (Apache-2.0).

Its file, `ch_PP-OCRv4_det_infer.onnx`, is part of the wheel of rapidocr-onnxruntime. Only that file is used: the
package itself, which requires a second OpenCV, is never imported. Input `x`: (1, 3, H, W), H and W multiples of 32,
(value / 255 - 0.5) / 0.5. Output: (1, 1, H, W), the probability that a pixel belongs to the core of a line of text.

It detects text and does not recognise it, and it downloads nothing. It uses one thread, because files are processed in
parallel. Axes: H row, W column, C channel.
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from echoplane.errors import ConfigError

_SHA256 = "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"
_STRIDE = 32
_CORE, _SCORE = 0.3, 0.5  # minimum probability of a pixel of a line's core; minimum mean over the core
_MIN_CORE_PIXELS = 20
_THICKEST_CORE = 40  # pixels; words 96 pixels high have less, a dark chamber mistaken for text has more
_GROWTH = 1.1  # factor of the core's width by which it is widened, because it is narrower than the letters


@cache
def _session() -> Any:
    import onnxruntime

    model = _model()
    if hashlib.sha256(model).hexdigest() != _SHA256:
        raise ConfigError("the text detector's file is not the one that was tested; run `make setup` again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _model() -> bytes:
    """Returns the content of the detector's file, found without importing its package."""
    package = find_spec("rapidocr_onnxruntime")
    if package is None or not package.submodule_search_locations:
        raise ConfigError("the text detector is not installed; run `make setup` again.")
    return (Path(package.submodule_search_locations[0]) / "models" / "ch_PP-OCRv4_det_infer.onnx").read_bytes()


def lines(view_HW: np.ndarray) -> np.ndarray:
    """Returns a mask of the pixels of a view, grey or of three channels, that lie in a line of text."""
    view_HWC = np.repeat(view_HW[..., None], 3, axis=2) if view_HW.ndim == 2 else view_HW
    rows, columns = view_HWC.shape[:2]
    padded = np.pad(view_HWC, ((0, -rows % _STRIDE), (0, -columns % _STRIDE), (0, 0)), mode="edge")
    batch = (padded.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    probability_HW = _session().run(None, {"x": np.ascontiguousarray(batch)})[0][0, 0]
    return _boxes(probability_HW)[:rows, :columns]


def _boxes(probability_HW: np.ndarray) -> np.ndarray:
    """Returns a mask of the lines: each core as a rotated rectangle, widened to the letters."""
    found = np.zeros(probability_HW.shape, np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((probability_HW > _CORE).astype(np.uint8))
    for label in range(1, count):
        core = labels == label
        if stats[label, cv2.CC_STAT_AREA] < _MIN_CORE_PIXELS or probability_HW[core].mean() < _SCORE:
            continue
        points_xy = np.argwhere(core)[:, ::-1].astype(np.int32)
        centre, (width, height), angle = cv2.minAreaRect(points_xy)
        if min(width, height) > _THICKEST_CORE:
            continue
        margin = _GROWTH * min(width, height)
        corners = cv2.boxPoints((centre, (width + margin, height + margin), angle))
        cv2.fillConvexPoly(found, np.round(corners).astype(np.int32), 1)
    return found.astype(bool)
