"""The model card, `card.md`: intended use of the model, its training data and its limits."""

from echoplane.bundle.spec import Contents
from echoplane.dataset.shards import Shards
from echoplane.tasks import Calibration


def card(contents: Contents, about: str, calibration: Calibration, steps: int, shards: Shards) -> str:
    """Returns the card in Markdown; `about` describes what an answer is. It holds no date, so that the same model has
    the same bundle id."""
    return "\n".join(
        [
            f"# {contents.task}",
            "",
            "Research use, not a medical device: no answer of this model may guide care.",
            "",
            "## What it answers",
            "",
            about,
            "",
            *(f"- {label.title} (`{label.name}`, {label.scheme} {label.code})" for label in contents.labels),
            "",
            "## What it was made from",
            "",
            *_data(shards),
            f"- {steps} training steps; network settings {contents.network}",
            *([f"- weights at the start: those of bundle `{contents.started_from}`"] if contents.started_from else []),
            f"- catalogue SHA-256 `{contents.data_digest}`",
            f"- split `{contents.split_id}`",
            f"- echoplane {contents.code.version}, package source `{contents.code.package_digest}`",
            "",
            "## Calibration",
            "",
            calibration.sentence,
            "",
            "The figures on unseen patients are in `evaluation.json` beside the bundle, made after it was sealed.",
            "",
            "## Limits",
            "",
            "Scanners, ages and diseases that its patients did not have are unknown to it.",
            "",
        ]
    )


def _data(shards: Shards) -> list[str]:
    index, lines = shards.index, []
    for split in ("train", "validation"):
        rows = shards.rows_of(split)
        lines.append(f"- {split}: {len(rows)} samples of {len(set(index['patient'][rows]))} patients")
    return [*lines, f"- manufacturers: {', '.join(sorted(set(index['manufacturer']))) or 'not stated'}"]
