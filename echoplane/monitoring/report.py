"""The page of `echoplane drift`."""

import io
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

from echoplane.html import data_uri, render
from echoplane.monitoring.drift import THRESHOLD, WINDOW


def write_report(found: dict[str, Any], evidence: list[float], path: Path) -> None:
    """Writes the page, which needs no other file: the results in `found`, and the evidence after each study."""
    template = resources.files(__package__).joinpath("report.html").read_text()
    path.write_text(render(template, found=found, picture=data_uri(_picture(evidence))), encoding="utf-8")


def _picture(evidence: list[float]) -> bytes:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(np.arange(1, len(evidence) + 1), np.maximum(evidence, 0.1), color="#2b6cb0")
    axes.axhline(THRESHOLD, color="#c53030", linestyle="--", linewidth=1)
    axes.text(1, THRESHOLD * 1.3, "alarm", color="#c53030", fontsize=9)
    axes.set_yscale("log")
    axes.set_ylim(0.1, max(THRESHOLD * 10, max(evidence) * 3))
    axes.set_xlim(0, max(WINDOW, len(evidence)))
    axes.set_xlabel("answered studies")
    axes.set_ylabel("evidence of drift")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()
