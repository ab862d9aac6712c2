"""The evaluation as a page and three figures."""

import io
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
    """`confusion.png`, `reliability.png`, `recall.png` and `report.html`, which needs no other file."""
    titles = {label.name: label.title for label in by_name(evaluation["task"]).labels()}
    pictures = {
        "confusion": _png(confusion_figure(evaluation["confusion"], titles)),
        "reliability": _png(reliability_figure(evaluation)),
        "recall": _png(recall_figure(evaluation["figures"], titles)),
    }
    for name, content in pictures.items():
        (folder / f"{name}.png").write_bytes(content)
    template = resources.files(__package__).joinpath("report.html").read_text()
    page = render(
        template,
        evaluation=evaluation,
        titles=titles,
        pictures={name: data_uri(content) for name, content in pictures.items()},
    )
    (folder / "report.html").write_text(page)


def confusion_figure(confusion: dict[str, Any], titles: dict[str, str]) -> Figure:
    """Percent of each true row."""
    percent_KK = np.array(confusion["percent"])
    names = [titles[name] for name in confusion["labels"]]
    figure = Figure(figsize=(8.2, 7.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(percent_KK, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    for row, column in zip(*np.nonzero(percent_KK), strict=True):
        shade = "white" if percent_KK[row, column] > 55 else "black"
        axes.text(column, row, f"{percent_KK[row, column]:.0f}", ha="center", va="center", color=shade, fontsize=8)
    axes.set_title("Answers to each true view (%)", fontsize=10)
    return figure


def reliability_figure(evaluation: dict[str, Any]) -> Figure:
    """Accuracy against confidence; on the diagonal a model means what it says (Guo et al. 2017)."""
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


def recall_figure(figures: dict[str, dict[str, float]], titles: dict[str, str]) -> Figure:
    """Recall of each label with its interval."""
    shown = [(title, figures[f"recall/{name}"]) for name, title in titles.items() if f"recall/{name}" in figures]
    values = np.array([f["value"] for _, f in shown])
    # A percentile interval need not hold the figure itself; a bar's whisker can't be negative.
    below = np.maximum(0, values - [f["low"] for _, f in shown])
    above = np.maximum(0, [f["high"] for _, f in shown] - values)
    figure = Figure(figsize=(7.2, 0.32 * len(shown) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(shown)), values, xerr=[below, above], color=BLUE, alpha=0.7, ecolor=GREY, capsize=3)
    axes.set_yticks(range(len(shown)), [title for title, _ in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="recall, 95% interval (patients resampled)")
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
