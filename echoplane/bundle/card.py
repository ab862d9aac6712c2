"""The model card, `card.md`: what the model is for, what it was made from, what it does not know."""

from echoplane.bundle.calibrate import Calibration
from echoplane.bundle.spec import Contents
from echoplane.dataset.shards import Shards


def card(contents: Contents, calibration: Calibration, steps: int, shards: Shards) -> str:
    """Markdown. It holds no date, so that the same model has the same card and the same bundle id."""
    return "\n".join(
        [
            f"# {contents.task}",
            "",
            "Research use, not a medical device: no answer of this model may guide care.",
            "",
            "## What it answers",
            "",
            f'One of {len(contents.labels)} labels, with a probability for each, or "cannot tell" '
            f"under a confidence of {contents.abstain_below:.3f}.",
            "",
            *(f"- {label.title} (`{label.name}`, {label.scheme} {label.code})" for label in contents.labels),
            "",
            "## What it was made from",
            "",
            *_data(shards),
            f"- {steps} training steps; network settings {contents.network}",
            f"- catalogue SHA-256 `{contents.data_digest}`",
            f"- split `{contents.split_id}`",
            f"- echoplane {contents.code.version}, package source `{contents.code.package_digest}`",
            "",
            "## Calibration",
            "",
            f"On {calibration.clips} validation clips: temperature {calibration.temperature:.3f}; expected calibration",
            f"error {calibration.calibration_error_before:.3f} before and "
            f"{calibration.calibration_error_after:.3f} after it; {100 * calibration.abstained:.1f}% answered",
            f'"cannot tell", {100 * calibration.answered_accuracy:.1f}% of the others right.',
            "",
            "The figures on unseen patients are in `evaluation.json` beside the bundle, made after it was sealed.",
            "",
            "## Limits",
            "",
            "It answers with one of its labels whatever a clip shows. Scanners, ages and diseases that its patients",
            "did not have are unknown to it.",
            "",
        ]
    )


def _data(shards: Shards) -> list[str]:
    index, lines = shards.index, []
    for split in ("train", "validation"):
        rows = shards.rows_of(split)
        lines.append(f"- {split}: {len(rows)} clips of {len(set(index['patient'][rows]))} patients")
    return [*lines, f"- manufacturers: {', '.join(sorted(set(index['manufacturer']))) or 'not stated'}"]
