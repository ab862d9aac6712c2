"""Echo views from pictures: train on phantoms alone, score on real pictures, ship.

python -m benchmarks.views_training train --seed 0                    # one network, minutes on one core
python -m benchmarks.views_training score --camus FOLDER              # all trained networks, on the half for choosing
python -m benchmarks.views_training ship --camus FOLDER --seeds 0 1   # seal them as one bundle, score the other half

Real pictures are only ever scored; no weight learns from them. Axes: B batch, H row, W column."""

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.views_pictures import FIELD, Pictures, pictures
from benchmarks.views_scores import Weights, measure, ship
from echoplane.files import replacing
from echoplane.phantom import BEDSIDE, CLINIC, HAZY, USUAL, WIDE
from echoplane.stages.progress import printed
from echoplane.tasks.view_image import learning, names

WORK = Path(__file__).resolve().parents[1] / "build" / "papers" / "views"
GROUPS, VALIDATION, UNSEEN = range(1000, 1550), range(9000, 9050), range(9100, 9150)
"""Groups of a picture per view that train, choose and test; no two groups share a heart."""
ROWS, COLUMNS = 60, 80
RANGES = {"usual": USUAL, "wide": WIDE, "hazy": HAZY, "bedside": BEDSIDE, "clinic": CLINIC}


@dataclass(frozen=True)
class Recipe:
    """Settings of the training of one network."""

    samples: int = 10000
    batch: int = 32
    outliers: int = 3
    """Pictures without a view beside each batch."""
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.15
    outlier_weight: float = 0.1
    ema: float = 0.98
    """Weights are averaged over the last two thirds of the steps, by this factor per step."""
    background: float = 0.15
    """Share of pictures with something outside the sector."""
    rotation_deg: float = 2
    zoom: tuple[float, float] = (0.95, 1.08)
    """Size of the field that the network sees, in pictures: over 1 there is a margin."""
    margin: tuple[float, float] = (0.15, 0.35)
    """Share of pictures with a wide margin, as of files without a scan region, and its largest further size."""
    stretch: float = 0.08
    shift: float = 0.04
    gamma: float = 0.5
    speckle: float = 0.12
    field: float = 0.25
    blur: float = 0.15
    frequent: int = 1
    """How often each A4C and A2C is shown per picture of another view: laboratories record them at least twice as often
    as A5C and A3C, so that an apical picture without a visible outflow tract is one of them."""


TUNING = Recipe(samples=4000, learning_rate=1.5e-3, warmup=0.1, ema=0.97, frequent=2)
"""Further training of a network on the ranges that follow the first."""
TUNING_GROUPS = range(1000, 1225)
FREQUENT = ("a4c", "a2c")
ADJUSTED = {"a5c": 0.4}
"""Added to these logits after training (Menon et al. 2021, arXiv 2007.07314), as if their views had been shown more
often: A4C, shown twice as often, takes over A5C, of which 16 % of unseen synthetic ones were read without it."""


class Augment:
    """Changes a batch (B, 2 * ROWS, 2 * COLUMNS) to (B, ROWS, COLUMNS): geometry, greys, and what lies outside."""

    def __init__(self, seed: int, recipe: Recipe) -> None:
        self._generator, self._recipe = torch.Generator().manual_seed(seed), recipe

    def uniform(self, count: int, low: float, high: float) -> torch.Tensor:
        return (torch.rand(count, generator=self._generator) * (high - low) + low)[:, None, None, None]

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator)

    def some(self, count: int, share: float) -> torch.Tensor:
        return torch.rand(count, 1, 1, 1, generator=self._generator) < share

    def order(self, count: int) -> torch.Tensor:
        return torch.randperm(count, generator=self._generator)

    def __call__(self, grey_BHW: torch.Tensor) -> torch.Tensor:
        x = self._moved(self._background(functional.avg_pool2d(grey_BHW[:, None].float(), 2)))
        count = len(x)
        recipe = self._recipe
        x = x * torch.exp(self._smooth(count, (4, 5)) * self.uniform(count, 0, recipe.field))
        x = 255 * (x.clamp(0, 255) / 255) ** torch.exp(self.uniform(count, -recipe.gamma, recipe.gamma))
        x = x * torch.exp(self.uniform(count, -0.5, 0.4))
        noise = self.normal(*x.shape)
        noise = torch.where(self.some(count, 0.5), noise, 2.4 * functional.avg_pool2d(noise, 3, 1, 1))
        x = x * (1 + noise * self.uniform(count, 0, recipe.speckle))
        x = torch.where(self.some(count, recipe.blur), functional.avg_pool2d(x, 3, 1, 1), x)
        return x.clamp(0, 255)[:, 0]

    def _background(self, x: torch.Tensor) -> torch.Tensor:
        """Grey, or another picture, outside the sector (after BackMix, arXiv 2406.19148)."""
        count = len(x)
        lit = functional.max_pool2d(x, 5, 1, 2) > 2
        other = x[self.order(count)].flip(3) * self.uniform(count, 0, 1)
        level = self.uniform(count, -40, 40).clamp(min=0)
        outside = torch.where(self.some(count, 0.5), other, level)
        return x + outside * ~lit * self.some(count, self._recipe.background)

    def _moved(self, x: torch.Tensor) -> torch.Tensor:
        count, recipe = len(x), self._recipe
        angle = self.uniform(count, -recipe.rotation_deg, recipe.rotation_deg).flatten() * np.pi / 180
        share, most = recipe.margin
        wide = self.some(count, share) * self.uniform(count, 0, most)
        across = (self.uniform(count, *recipe.zoom) + wide).flatten()
        down = across * self.uniform(count, 1 - recipe.stretch, 1 + recipe.stretch).flatten()
        shift = recipe.shift + wide.flatten() / 2
        aspect = ROWS / COLUMNS
        matrix = torch.zeros(count, 2, 3)
        matrix[:, 0, 0], matrix[:, 0, 1] = across * torch.cos(angle), -across * torch.sin(angle) * aspect
        matrix[:, 1, 0], matrix[:, 1, 1] = down * torch.sin(angle) / aspect, down * torch.cos(angle)
        matrix[:, 0, 2] = self.uniform(count, -1, 1).flatten() * shift
        matrix[:, 1, 2] = self.uniform(count, -1, 1).flatten() * shift
        grid = functional.affine_grid(matrix, [count, 1, ROWS, COLUMNS], align_corners=False)
        return functional.grid_sample(x, grid, align_corners=False)

    def _smooth(self, count: int, size: tuple[int, int]) -> torch.Tensor:
        return functional.interpolate(self.normal(count, 1, *size), (ROWS, COLUMNS), mode="bicubic")

    def outliers(self, grey_NHW: torch.Tensor, count: int) -> torch.Tensor:
        """Pictures that show no view: noise, one grey, smooth blobs, and phantom pictures upside down, inverted, or
        cut into tiles that are shuffled."""
        whole = functional.avg_pool2d(grey_NHW[self.order(len(grey_NHW))[:count]][:, None].float(), 2)
        kinds = [
            torch.rand(whole.shape, generator=self._generator) * self.uniform(count, 0, 255),
            self.uniform(count, -60, 255).expand(whole.shape),
            100 + 60 * self._smooth(count, (6, 8)) + self.normal(*whole.shape) * self.uniform(count, 0, 30),
            whole.flip(2),
            255 - whole,
            _tiles(whole, self.order(12)),
        ]
        chosen = torch.randint(0, len(kinds), (count,), generator=self._generator)
        return torch.stack([kinds[int(kind)][k, 0] for k, kind in enumerate(chosen)]).clamp(0, 255)


def _tiles(x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Pictures cut into 3 x 4 tiles that change places."""
    tiles = x.view(len(x), 3, 20, 4, 20).permute(0, 1, 3, 2, 4).reshape(len(x), 12, 20, 20)[:, order]
    return tiles.view(len(x), 3, 4, 20, 20).permute(0, 1, 3, 2, 4).reshape(x.shape)


def fit(
    data: Pictures, seed: int, network: learning.Network, recipe: Recipe, start: Weights | None = None
) -> nn.Module:
    """Returns one trained network, its weights averaged; it starts from the weights `start` if there are any."""
    torch.manual_seed(seed)
    module, augment = learning.network(network).to(memory_format=torch.channels_last), Augment(seed, recipe)
    if start is not None:
        module.load_state_dict(start)
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    grey_NHW, label_N = torch.from_numpy(data.grey_NHW), torch.from_numpy(data.label_N)
    row_N = shown(data, recipe)
    steps, averaged, order = recipe.samples // recipe.batch, copy.deepcopy(module), torch.empty(0, dtype=torch.long)
    show = printed(f"views seed {seed}", every_s=20)
    nothing_B = torch.full((recipe.outliers,), learning.UNLABELLED)
    for step in range(steps):
        if len(order) < recipe.batch:
            order = torch.cat([order, row_N[augment.order(len(row_N))]])
        rows, order = order[: recipe.batch], order[recipe.batch :]
        inputs = torch.cat([augment(grey_NHW[rows]), augment.outliers(grey_NHW, recipe.outliers)])
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step / steps, recipe.warmup)
        output, _ = module(inputs)
        target = torch.cat([label_N[rows], nothing_B])
        loss = learning.loss(output, target, outlier_weight=recipe.outlier_weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        _average(averaged, module, recipe.ema if step > steps // 3 else 0.0)
        show(step + 1, steps)
    return averaged.eval()


def shown(data: Pictures, recipe: Recipe) -> torch.Tensor:
    """Returns the rows of one pass through the data, FREQUENT views repeated."""
    frequent_N = np.isin(data.label_N, [names().index(name) for name in FREQUENT])
    return torch.from_numpy(np.repeat(np.arange(len(data.label_N)), np.where(frequent_N, recipe.frequent, 1)))


def adjusted(weights: Weights) -> Weights:
    """Returns weights of a network whose logits are higher by ADJUSTED."""
    change_K = torch.tensor([ADJUSTED.get(name, 0.0) for name in names()])
    return weights | {"classify.bias": weights["classify.bias"] + change_K}


def trained_shares(data: Pictures, recipe: Recipe) -> dict[str, float]:
    """Returns the share of each label in training, with ADJUSTED."""
    counts_K = np.bincount(data.label_N[shown(data, recipe).numpy()], minlength=len(names())).astype(float)
    counts_K *= np.exp([ADJUSTED.get(name, 0.0) for name in names()])
    return dict(zip(names(), (counts_K / counts_K.sum()).round(5).tolist(), strict=True))


def _schedule(done: float, warmup: float) -> float:
    return min(done / warmup + 0.01, 0.5 * (1 + np.cos(np.pi * max(0.0, (done - warmup) / (1 - warmup)))))


def _average(averaged: nn.Module, module: nn.Module, keep: float) -> None:
    """Moves the averaged weights towards the module's; counters are copied."""
    for mean, value in zip(averaged.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.mul_(keep).add_(value, alpha=1 - keep)
        else:
            mean.copy_(value)


def weights_path(kind: str, ranges: Sequence[str], seed: int) -> Path:
    return WORK / f"{kind}-{'-'.join(ranges)}-{seed}.pt"


def train(seed: int, kind: str, ranges: Sequence[str]) -> None:
    """Trains network `seed` unless it is there, on one set of ranges after the other, and notes its processor time."""
    path, *before = (weights_path(kind, ranges[:k], seed) for k in range(len(ranges), 0, -1))
    if path.exists():
        return
    start, spent_s = None, 0
    if before:
        train(seed, kind, ranges[:-1])
        start, spent_s = torch.load(before[0], weights_only=True), _spent_s(before[0])
    data, recipe = _last_training(ranges)
    begin_s = time.process_time()
    module = fit(data, seed, learning.Network(kind=kind), recipe, start)
    path.with_suffix(".json").write_text(json.dumps({"cpu_s": spent_s + round(time.process_time() - begin_s)}))
    with replacing(path) as file:
        torch.save(module.state_dict(), file)


def _last_training(ranges: Sequence[str]) -> tuple[Pictures, Recipe]:
    """Returns the pictures and the recipe of the last training on these ranges."""
    groups, recipe = (TUNING_GROUPS, TUNING) if len(ranges) > 1 else (GROUPS, Recipe())
    return pictures(WORK / ranges[-1], groups, RANGES[ranges[-1]]), recipe


def _spent_s(path: Path) -> int:
    return int(json.loads(path.with_suffix(".json").read_text())["cpu_s"])


def synthetic() -> dict[str, Pictures]:
    """Returns pictures of hearts that no network has seen: of the ranges of training, and of machines never seen."""
    return {
        "phantom": pictures(WORK / "clinic-validation", VALIDATION),
        "field": pictures(WORK / "clinic-field", UNSEEN, FIELD),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.views_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["train", "score", "ship"])
    parser.add_argument("--seed", type=int, default=0, help="of the network that is trained")
    parser.add_argument("--kind", choices=["residual", "vgg"], default="residual", help="vgg is the paper's network")
    parser.add_argument(
        "--ranges", choices=list(RANGES), nargs="+", default=["bedside", "clinic"], help="of the phantom, in this order"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the networks that are scored")
    parser.add_argument("--exponent", type=float, default=0.7, help="of the grey curve of what is scored and shipped")
    parser.add_argument("--camus", type=Path, help="folder of stills VIEW__patientNUMBER_PHASE.png")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "train":
        train(args.seed, args.kind, args.ranges)
        return
    if args.camus is None:
        parser.error("--camus is needed to score and to ship")
    paths = [weights_path(args.kind, args.ranges, seed) for seed in args.seeds]
    weights = [adjusted(torch.load(path, weights_only=True)) for path in paths]
    network = learning.Network(kind=args.kind, exponent=args.exponent)
    if args.what == "score":
        print(json.dumps(measure(weights, network, synthetic(), args.camus), indent=1))
        return
    made = {
        "seeds": args.seeds,
        "minutes": round(sum(map(_spent_s, paths)) / 60, 1),
        "samples": Recipe().samples + TUNING.samples * (len(args.ranges) - 1),
        "exponent": args.exponent,
        "ranges": args.ranges,
        "trained_shares": trained_shares(*_last_training(args.ranges)),
    }
    ship(weights, network, made, synthetic(), args.camus, WORK)


if __name__ == "__main__":
    main()
