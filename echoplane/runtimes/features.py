"""Numbers that describe the network's input, on which drift is monitored. None of them identifies a patient."""

from collections.abc import Mapping

import cv2
import numpy as np

from echoplane.study.study import Study

DARK = 8
"""Grey levels of 255 up to which a pixel counts as dark."""
MAX_IMAGES = 8
"""Images of a batch that are measured: enough for a mean, at little cost beside an inference."""


def input_features(study: Study, batch: np.ndarray) -> Mapping[str, float]:
    """Returns the features of a prepared study: `batch` (..., row, column) uint8.

    brightness, contrast (standard deviation) and sharpness (mean absolute Laplacian) are shares of full white; dark is
    the share of dark pixels; motion is the mean absolute difference of consecutive images. A study of a single instance
    also has its frames, rows, columns and frame time in ms (0 if not stated).
    """
    images = batch.reshape(-1, *batch.shape[-2:])
    step = max(1, len(images) // MAX_IMAGES)
    shown = np.ascontiguousarray(images[::step][:MAX_IMAGES])
    following = images[1::step][: len(shown)]
    features = {
        "brightness": float(shown.mean()) / 255,
        "contrast": float(shown.std()) / 255,
        "sharpness": float(np.mean([np.abs(cv2.Laplacian(image, cv2.CV_16S)).mean() for image in shown])) / 255,
        "dark": float((shown <= DARK).mean()),
        "motion": float(np.abs(shown[: len(following)].astype(np.int16) - following).mean()) / 255
        if len(following)
        else 0.0,
    }
    return features | _geometry(study)


def _geometry(study: Study) -> dict[str, float]:
    if len(study.instances) != 1:
        return {}
    only = study.instances[0]
    return {
        "frames": float(only.frame_count),
        "rows": float(only.rows),
        "columns": float(only.columns),
        "frame_time_ms": float(only.frame_time_ms or 0),
    }
