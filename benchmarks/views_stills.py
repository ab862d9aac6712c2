"""Training pictures of echo-view-image: a data set as the stage `dataset` writes it.

Rendered in parts that are kept: a run that was stopped goes on. Axes: N picture, H row, W column."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.views_clips import FRAME_S
from benchmarks.views_not_hearts import without_view
from benchmarks.views_pictures import PART, Pictures, frames, inputs, strips
from echoplane.dataset.shards import INDEX
from echoplane.files import replacing
from echoplane.phantom import BEDSIDE, CLINIC, USUAL, Ranges, make_patient
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.stages.progress import printed
from echoplane.tasks.view_image.learning import UNLABELLED

MIXED = (CLINIC, USUAL, CLINIC, BEDSIDE)
"""Ranges of groups that follow one another: half of the pictures are clinic ones."""
TWICE = ("a4c", "a2c", "a5c", "a3c")
"""Views of which a group holds a second heart: they are the hardest to tell from one another."""
SECOND_HEARTS = 2_000_000
"""First seed of the second hearts, above those of all groups."""
NOTHING = 2
"""Pictures without a view per group."""
TRAIN, VALIDATION = range(40000, 41500), range(43000, 43050)
FRAMES = 8
"""Frames per clip of a test, as many as the task reads."""
SPAN_S = 1.0
"""Time that the frames of a clip span."""


@dataclass(frozen=True)
class Clips:
    """Frames of clips, FRAMES after one another, and the patient of each clip."""

    pictures: Pictures
    patient_N: np.ndarray


def parts(folder: Path, groups: range) -> Iterator[Pictures]:
    """Yields the pictures of each part of the groups, rendered unless they are there; UNLABELLED ones show no view."""
    folder.mkdir(parents=True, exist_ok=True)
    show = printed(f"stills {folder.name}", every_s=20)
    for first in groups[::PART]:
        path = folder / f"{first}.npz"
        if not path.exists():
            drawn = [each for number in range(first, first + PART) for each in _group(number)]
            with replacing(path) as file:
                np.savez_compressed(
                    file,
                    grey_NHW=np.stack([grey for grey, _ in drawn]),
                    label_N=np.array([label for _, label in drawn]),
                )
        part = np.load(path)
        yield Pictures(part["grey_NHW"], part["label_N"])
        show(first + PART - groups.start, len(groups))


def _group(number: int) -> list[tuple[np.ndarray, int]]:
    ranges, drawn = MIXED[number % len(MIXED)], []
    for k, view in enumerate((*VIEW_NAMES, *TWICE)):
        seed = number * len(VIEW_NAMES) + k if k < len(VIEW_NAMES) else SECOND_HEARTS + number * len(TWICE) + k
        rng = np.random.default_rng([number, k, 45])
        drawn.append((frames(make_patient(seed, ranges).heart, view, ranges, rng)[0], VIEW_NAMES.index(view)))
    rng = np.random.default_rng([number, 47])
    hearts = rng.choice(len(VIEW_NAMES), NOTHING, replace=False)
    nothing = [(without_view(drawn[k][0], rng), UNLABELLED) for k in hearts]
    # in every second group, of all ranges in turn
    return drawn + (strips(number, ranges) if (number + number // len(MIXED)) % 2 == 0 else []) + nothing


def dataset(folder: Path) -> None:
    """Makes the shards of training and validation pictures in `folder`."""
    rows, shard = [], 0
    for split, groups in (("train", TRAIN), ("validation", VALIDATION)):
        for part in parts(folder / split, groups):
            with replacing(folder / f"clips-{shard:04d}.npy") as file:
                np.save(file, inputs(part.grey_NHW))
            names = [f"{split}-{shard}-{k}" for k in range(len(part.label_N))]
            where = {"shard": shard, "split": split, "manufacturer": "phantom"}
            rows += [
                where | {"row": k, "label": int(label), "sample": names[k], "patient": names[k]}
                for k, label in enumerate(part.label_N)
            ]
            shard += 1
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX), folder / "index.parquet")


def clips(path: Path, groups: range, ranges: Ranges) -> Clips:
    """Returns a clip per view of one patient per group, rendered unless the file `path` is there."""
    if not path.exists():
        show, grey = printed(f"stills {path.stem}", every_s=20), []
        for done, number in enumerate(groups, 1):
            heart = make_patient(number * len(VIEW_NAMES), ranges).heart
            for k, view in enumerate(VIEW_NAMES):
                rng = np.random.default_rng([number, k, 49])
                step_s = SPAN_S / FRAMES
                phases_T = rng.uniform() + np.arange(FRAMES) * step_s * heart.heart_rate_bpm / 60
                grey.append(frames(heart, view, ranges, rng, phases_T=phases_T, apart=step_s / FRAME_S))
            show(done, len(groups))
        with replacing(path) as file:
            np.savez_compressed(file, grey_NHW=np.concatenate(grey))
    label_N = np.tile(np.repeat(np.arange(len(VIEW_NAMES)), FRAMES), len(groups))
    return Clips(Pictures(np.load(path)["grey_NHW"], label_N), np.repeat(np.arange(len(groups)), len(VIEW_NAMES)))
