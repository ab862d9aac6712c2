"""`measures.json`, `measures.csv` and `mask.nii.gz` of one measured cine.

Axes: T phase, Z slice, H row, W column."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from echoplane.study.cine import Cine
from echoplane.study.nifti import write_nifti
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.measures import HEADERS, heart_rate_bpm

RESEARCH_USE = "Research use only. Not a medical device."


def write_measures(found: Segmentation, cines: tuple[Cine, ...], model: dict[str, str], folder: Path) -> list[Path]:
    """Write the three files (and a mask for each long axis cine); their paths. `model` says what answered."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "measures.json", folder / "measures.csv"]
    paths[0].write_text(json.dumps(as_json(found, cines, model), indent=1) + "\n")
    paths[1].write_text(as_csv(found))
    for cine in cines:
        name = "mask.nii.gz" if cine is cines[0] else f"mask-{cine.plane}.nii.gz"
        (folder / name).write_bytes(write_nifti(found.masks[cine.plane], cine))
        paths.append(folder / name)
    return paths


def as_json(found: Segmentation, cines: tuple[Cine, ...], model: dict[str, str]) -> dict[str, Any]:
    """Plain data: measures by name with their unit, curves, phases, flags, warnings, and what is known of the input."""
    stack = cines[0]
    return {
        "schema": 1,
        "measures": {name: rounded(found.measures.get(name)) for name in HEADERS},
        "by_header": {header: rounded(found.measures.get(name)) for name, header in HEADERS.items()},
        "ed_phase": found.ed,
        "es_phase": found.es,
        "curves": {
            name: {"unit": curve.unit, "values": [round(float(v), 3) for v in curve.size_T]}
            for name, curve in found.curves.items()
        },
        "heart_rate_bpm": heart_rate_bpm(stack),
        "expected_dice": round(found.confidence, 4),
        "flags": [{"name": flag.name, "sentence": flag.sentence} for flag in found.flags],
        "warnings": list(found.warnings),
        "input": {
            "planes": [cine.plane for cine in cines],
            "shape_TZHW": list(stack.voxels_TZHW.shape),
            "spacing_mm": stack.spacing_mm,
            "slice_spacing_mm": stack.slice_spacing_mm,
            "frame_time_ms": stack.frame_time_ms,
        },
        "model": model,
        "research_use": RESEARCH_USE,
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def as_csv(found: Segmentation) -> str:
    """One header row and one of figures, blank where not known; the flags' names last."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*HEADERS.values(), "flags"])
    values = ["" if (v := found.measures.get(name)) is None else f"{v:.2f}" for name in HEADERS]
    table.writerow([*values, " ".join(sorted({flag.name for flag in found.flags}))])
    return text.getvalue()
