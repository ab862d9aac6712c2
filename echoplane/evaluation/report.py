"""The evaluation as an HTML page with plots."""

import io
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

from echoplane.html import data_uri, render
from echoplane.tasks import by_name

DPI = 110
BLUE, GREY = "#2b6cb0", "#718096"


def write_report(evaluation: dict[str, Any], folder: Path) -> None:
    """Writes a plot for each kind of detail that the evaluation has, and `report.html`, which needs no other file."""
    titles = {label.name: label.title for label in by_name(evaluation["task"]).labels()}
    pictures = {
        name: _png(draw(evaluation, titles)) for name, (detail, draw) in PICTURES.items() if evaluation.get(detail)
    }
    for name, content in pictures.items():
        (folder / f"{name}.png").write_bytes(content)
    template = resources.files(__package__).joinpath("report.html").read_text()
    page = render(
        template,
        evaluation=evaluation,
        titles=titles,
        pictures={name: data_uri(content) for name, content in pictures.items()},
        overlaps=_overlaps(evaluation["figures"]),
    )
    (folder / "report.html").write_text(page)


def _overlaps(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns structure and phase (end diastole or end systole) of each figure `dice/STRUCTURE/PHASE`."""
    parts = [name.split("/", 2) for name in figures if name.startswith("dice/")]
    return [(part[1], part[2]) for part in parts if len(part) == 3]


def agreement_figure(evaluation: dict[str, Any], titles: dict[str, str]) -> Figure:
    """Returns a Bland-Altman plot of each measure: difference against mean, bias, 95% limits of agreement."""
    agreement = evaluation["agreement"]
    rows = -(-len(agreement) // 3)
    figure = Figure(figsize=(9, 2.6 * rows), layout="constrained")
    for place, found in enumerate(agreement.values(), start=1):
        axes = figure.add_subplot(rows, 3, place)
        truth_N, measured_N = np.array(found["points"]).T
        axes.scatter((truth_N + measured_N) / 2, measured_N - truth_N, s=10, color=BLUE, alpha=0.7)
        for line, style in (("bias", "-"), ("low", "--"), ("high", "--")):
            axes.axhline(found[line], color=GREY, linestyle=style, linewidth=1)
        axes.axhline(0, color="black", linewidth=0.4)
        axes.set_title(found["title"], fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supxlabel("mean of measured and true", fontsize=9)
    figure.supylabel("measured minus true", fontsize=9)
    return figure


def confusion_figure(evaluation: dict[str, Any], titles: dict[str, str]) -> Figure:
    """Returns the confusion matrix in percent of each true label."""
    confusion = evaluation["confusion"]
    percent_KK = np.array(confusion["percent"])
    names = [titles[name] for name in confusion["labels"]]
    figure = Figure(figsize=(8.2, 7.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(percent_KK, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("most probable")
    axes.set_ylabel("truth")
    for row, column in zip(*np.nonzero(percent_KK), strict=True):
        shade = "white" if percent_KK[row, column] > 55 else "black"
        axes.text(column, row, f"{percent_KK[row, column]:.0f}", ha="center", va="center", color=shade, fontsize=8)
    axes.set_title("Most probable label of each true one (%)", fontsize=10)
    return figure


def reliability_figure(evaluation: dict[str, Any], titles: dict[str, str]) -> Figure:
    """Returns accuracy against confidence; a calibrated model lies on the diagonal (Guo et al. 2017)."""
    bins = evaluation["reliability"]
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.bar(
        [b["from"] for b in bins],
        [b["accuracy"] for b in bins],
        [b["to"] - b["from"] for b in bins],
        align="edge",
        color=BLUE,
        alpha=0.7,
        edgecolor="white",
    )
    for b in bins:
        axes.text((b["from"] + b["to"]) / 2, 0.02, str(b["clips"]), ha="center", fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1.05), xlabel="confidence", ylabel="accuracy")
    error = evaluation["figures"]["calibration_error"]["value"]
    axes.set_title(f"Expected calibration error {error:.3f} (clips in each bar)", fontsize=10)
    return figure


def recall_figure(evaluation: dict[str, Any], titles: dict[str, str]) -> Figure:
    """Returns a plot of the recall of each label with its interval."""
    figures = evaluation["figures"]
    shown = [(title, figures[f"recall/{name}"]) for name, title in titles.items() if f"recall/{name}" in figures]
    values = np.array([f["value"] for _, f in shown])
    # A percentile interval may exclude the figure itself; an error bar cannot have a negative length.
    below = np.maximum(0, values - [f["low"] for _, f in shown])
    above = np.maximum(0, [f["high"] for _, f in shown] - values)
    figure = Figure(figsize=(7.2, 0.32 * len(shown) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(shown)), values, xerr=[below, above], color=BLUE, alpha=0.7, ecolor=GREY, capsize=3)
    axes.set_yticks(range(len(shown)), [title for title, _ in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="recall, 95% interval (patients resampled)")
    return figure


PICTURES: dict[str, tuple[str, Callable[[dict[str, Any], dict[str, str]], Figure]]] = {
    "confusion": ("confusion", confusion_figure),
    "recall": ("confusion", recall_figure),
    "reliability": ("reliability", reliability_figure),
    "agreement": ("agreement", agreement_figure),
}
"""Detail that each plot needs, and the function that draws it."""


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
