"""Writer of `measures.json`, `measures.csv` and the NIfTI masks of one measured study.

Axes: T phase, Z slice, H row, W column."""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from echoplane.study.cine import Cine
from echoplane.study.cine_files import FOUND
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.derived import DERIVED_HEADERS
from echoplane.tasks.cmr_segmentation.figures import rounded
from echoplane.tasks.cmr_segmentation.measures import HEADERS, heart_rate_bpm

ALL_HEADERS = HEADERS | DERIVED_HEADERS
"""Columns of measures.csv by the names of the measures."""
RESEARCH_USE = "Research use only. Not a medical device."
DICOM_OBJECTS = ("segmentation-ed.dcm", "segmentation-es.dcm", "report.dcm")
OUTPUTS = ("measures.json", "measures.csv", "report.html", *FOUND.values(), *DICOM_OBJECTS)
"""Names of all files that a result may consist of."""


def write_measures(found: Segmentation, study: Study, model: dict[str, str], folder: Path) -> dict[str, Any]:
    """Writes the three files, and a mask for each long axis cine; returns the content of measures.json. `model`
    identifies the model used."""
    measured = as_json(found, study, model)
    (folder / "measures.json").write_text(json.dumps(measured, indent=1) + "\n")
    (folder / "measures.csv").write_text(as_csv(found))
    for name, content in found.files(study).items():
        (folder / name).write_bytes(content)
    return measured


def as_json(found: Segmentation, study: Study, model: dict[str, str]) -> dict[str, Any]:
    """Returns plain data: the task's details, the known properties of the input, and the model used."""
    stack = study.cines[0]
    return {
        "schema": 1,
        **found.details(),
        "by_header": {header: rounded(found.measures.get(name)) for name, header in ALL_HEADERS.items()},
        "heart_rate_bpm": rounded(heart_rate_bpm(stack)),
        "warnings": list(found.warnings),
        "input": {
            "digest": stack_digest(stack),
            "pseudonym": found.subject.pseudonym,
            "planes": [cine.plane for cine in study.cines],
            "shape_TZHW": list(stack.voxels_TZHW.shape),
            "spacing_mm": stack.spacing_mm,
            "slice_spacing_mm": stack.slice_spacing_mm,
            "frame_time_ms": stack.frame_time_ms,
        },
        "model": model,
        "research_use": RESEARCH_USE,
    }


def stack_digest(stack: Cine) -> str:
    """Returns the SHA-256 of the voxels of the short axis stack, which tells an input without naming a person."""
    return hashlib.sha256(np.ascontiguousarray(stack.voxels_TZHW).tobytes()).hexdigest()


def as_csv(found: Segmentation) -> str:
    """Returns a header row and a row of measures, empty if unknown; the last column holds the names of the flags."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*ALL_HEADERS.values(), "flags"])
    values = ["" if (v := found.measures.get(name)) is None else f"{v:.2f}" for name in ALL_HEADERS]
    table.writerow([*values, " ".join(sorted({flag.name for flag in found.flags}))])
    return text.getvalue()
