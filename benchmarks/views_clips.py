"""Clips of echo-view-video from phantoms: a data set as the stage `dataset` writes it, and sets for tests.

Rendered a little larger than the network's input, with a coarser grid than on a machine's screen, in parts that are
kept: a run that was stopped goes on. Axes: N clip, T frame, H row, W column."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.views_pictures import frames, unseen_machines
from echoplane.dataset.shards import INDEX
from echoplane.files import replacing
from echoplane.phantom import BEDSIDE, CLINIC, USUAL, Ranges, make_patient
from echoplane.phantom.heart import Heart
from echoplane.phantom.patient import VIEW_NAMES
from echoplane.stages.progress import printed
from echoplane.tasks.view_video import Preprocessing
from echoplane.tasks.view_video.learning import UNLABELLED

INPUT = Preprocessing(frames=8, size=64)
RENDERED = 96
"""Rows and columns of rendered clips; those that train and test are shrunk to the size of the input."""
FRAME_S = 0.035
"""Usual time between two frames of a machine."""
SPANS_S = ((0.5, 1.0, 1.0), (0.35, 0.5, 1.0), (0.15, 0.1, 0.5))
"""Share of clips, and the range of the time that they span: the network sees at most a second, of short clips less."""
PART = 20
SECOND_HEARTS = 1_000_000
"""First seed of the second hearts of frequent views, above those of all groups."""
MIXED = (CLINIC, USUAL, CLINIC, BEDSIDE)
"""Ranges of groups that follow one another: half of the clips are clinic ones."""


FREQUENT = ("a4c", "a2c")
"""Views of which a training group holds a second heart: laboratories record them at least twice as often as others."""


@dataclass(frozen=True)
class Clips:
    """Groups of a clip per view. Each clip of a training group shows another heart, one more clip of the group no view,
    and there are two clips of FREQUENT views; all clips of other groups show one patient."""

    groups: range
    ranges: tuple[Ranges, ...] = MIXED
    training: bool = False


TRAIN, VALIDATION = Clips(range(20000, 21440), training=True), Clips(range(30000, 30040))
TESTS = {
    "usual": Clips(range(31000, 31040), (USUAL,)),
    "usual, machines never seen": Clips(range(32000, 32040), (unseen_machines(USUAL),)),
    "clinic": Clips(range(33000, 33040), (CLINIC,)),
    "clinic, machines never seen": Clips(range(34000, 34040), (unseen_machines(CLINIC),)),
}
Row = dict[str, Any]


def clip(heart: Heart, view: str, ranges: Ranges, seed: tuple[int, ...]) -> np.ndarray:
    """Returns one clip (T, RENDERED, RENDERED) as `preprocess` would give it at that size."""
    rng = np.random.default_rng(seed)
    low, high = SPANS_S[rng.choice(len(SPANS_S), p=[share for share, _, _ in SPANS_S])][1:]
    step_s = rng.uniform(low, high) / INPUT.frames
    rate_per_s = heart.heart_rate_bpm * rng.uniform(0.96, 1.04) / 60
    phases_T = rng.uniform() + np.arange(INPUT.frames) * step_s * rate_per_s
    twice = 2 * RENDERED, 2 * RENDERED
    large_THW = frames(heart, view, ranges, rng, phases_T=phases_T, apart=max(1, step_s / FRAME_S), size=twice)
    return shrunk(large_THW, RENDERED)


def shrunk(frame_NHW: np.ndarray, size: int) -> np.ndarray:
    """Returns frames of `size` x `size` pixels."""
    return np.stack([cv2.resize(each, (size, size), interpolation=cv2.INTER_AREA) for each in frame_NHW])


def _inputs(path: Path) -> np.ndarray:
    """Returns the clips of a part at the size of the input."""
    clip_NTHW = np.load(path)
    small = shrunk(clip_NTHW.reshape(-1, *clip_NTHW.shape[2:]), INPUT.size)
    return small.reshape(*clip_NTHW.shape[:2], INPUT.size, INPUT.size)


def without_view(clip_THW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a moving clip that shows no view: a heart upside down, inverted or cut into tiles, noise, or blobs."""
    rows, columns = clip_THW.shape[1:]
    kind = rng.choice(5, p=[0.35, 0.15, 0.2, 0.1, 0.2])
    if kind == 0:
        return clip_THW[:, ::-1]
    if kind == 1:
        return np.where(clip_THW.max(axis=0) > 0, 255 - clip_THW, 0)
    if kind == 2:
        tiles = clip_THW.reshape(len(clip_THW), 4, rows // 4, 4, columns // 4).transpose(1, 3, 0, 2, 4)
        tiles = tiles.reshape(16, *tiles.shape[2:])[rng.permutation(16)].reshape(4, 4, *tiles.shape[2:])
        return tiles.transpose(2, 0, 3, 1, 4).reshape(clip_THW.shape)
    if kind == 3:
        return rng.integers(0, rng.integers(40, 256), clip_THW.shape)
    return _blobs(clip_THW.shape, rng)


def _blobs(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Returns smooth blobs that swell and shrink under noise."""
    count, rows, columns = shape
    coarse = rng.standard_normal((2, 6, 8), dtype=np.float32)
    still, moving = (cv2.resize(each, (columns, rows), interpolation=cv2.INTER_CUBIC) for each in coarse)
    swing_T = np.sin(np.linspace(0, 2 * np.pi, count, endpoint=False)) * rng.uniform(0.1, 0.6)
    smooth_THW = 100 + 60 * (still + swing_T[:, None, None] * moving)
    return smooth_THW + rng.standard_normal(shape, dtype=np.float32) * rng.uniform(0, 30)


def _group(number: int, clips: Clips) -> Iterator[tuple[np.ndarray, Row]]:
    ranges = clips.ranges[number % len(clips.ranges)]
    for k, view in enumerate((*VIEW_NAMES, *(FREQUENT if clips.training else ()))):
        label = VIEW_NAMES.index(view)
        seed = number * len(VIEW_NAMES) + label if k < len(VIEW_NAMES) else SECOND_HEARTS + number * len(FREQUENT) + k
        seed = seed if clips.training else number * len(VIEW_NAMES)
        made = clip(make_patient(seed, ranges).heart, view, ranges, (number, k, 43))
        yield made, {"label": label, "sample": f"{number}-{k}-{view}", "patient": f"phantom-{seed}"}
        if clips.training and k == number % len(VIEW_NAMES):
            other = without_view(made, np.random.default_rng([number, 47]))
            nothing = np.clip(other, 0, 255).astype(np.uint8)
            yield nothing, {"label": UNLABELLED, "sample": f"{number}-none", "patient": f"phantom-{seed}"}


def parts(folder: Path, clips: Clips, show: Callable[[int, int], None]) -> Iterator[tuple[Path, list[Row]]]:
    """Yields the file and the rows of each part of the clips, rendered unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in clips.groups[::PART]:
        path = folder / f"{first}.npy"
        rows_path = path.with_suffix(".parquet")
        if not rows_path.exists():
            drawn = [each for number in range(first, first + PART) for each in _group(number, clips)]
            with replacing(path) as file:
                np.save(file, np.stack([made for made, _ in drawn]))
            with replacing(rows_path) as file:
                pq.write_table(pa.Table.from_pylist([row for _, row in drawn]), file)
        yield path, pq.read_table(rows_path).to_pylist()
        show(first + PART - clips.groups.start, len(clips.groups))


def dataset(folder: Path) -> str:
    """Makes the shards of training and validation clips in `folder`, and returns the SHA-256 of their index."""
    rows, shard = [], 0
    for split, clips in (("train", TRAIN), ("validation", VALIDATION)):
        for path, part in parts(folder / split, clips, printed(f"clips {split}", every_s=20)):
            with replacing(folder / f"clips-{shard:04d}.npy") as file:
                np.save(file, _inputs(path))
            where = {"shard": shard, "split": split, "manufacturer": "phantom"}
            rows += [row | where | {"row": k} for k, row in enumerate(part)]
            shard += 1
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX), folder / "index.parquet")
    return hashlib.sha256((folder / "index.parquet").read_bytes()).hexdigest()


def test_set(folder: Path, clips: Clips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns clips (N, T, H, W), their labels and their patients."""
    found = list(parts(folder, clips, printed(f"clips {folder.name}", every_s=20)))
    rows = [row for _, part in found for row in part]
    label_N, patient_N = (np.array([row[name] for row in rows]) for name in ("label", "patient"))
    return np.concatenate([_inputs(path) for path, _ in found]), label_N, patient_N
