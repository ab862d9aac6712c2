"""The training loop: plain PyTorch, in one process or in several that torch.distributed has already joined.

An epoch is `epoch_steps` steps. All randomness is seeded by (seed, epoch), so a run resumed from the checkpoint of an
epoch shows the same samples in the same order as an uninterrupted one. Axes: B batch, K label.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pydantic import BaseModel
from torch import nn

from echoplane.dataset.shards import Shards
from echoplane.errors import StageError
from echoplane.tasks import Learning
from echoplane.training.checkpoint import State
from echoplane.training.config import TrainConfig
from echoplane.training.data import Batch, training_batches, validation_batches

Wrap = Callable[[nn.Module], nn.Module]


def train(
    learning: Learning,
    shards: Shards,
    config: TrainConfig,
    *,
    network: BaseModel,
    augmentation: BaseModel,
    resume_from: State | None = None,
    start_from: dict[str, torch.Tensor] | None = None,
    on_progress: Callable[[int, int, float], None] = lambda done, total, loss: None,
    on_epoch: Callable[[State], None] = lambda state: None,
    wrap: Wrap = lambda module: module,
    rank: int = 0,
    world: int = 1,
) -> State:
    """Trains for `config.steps` steps and returns the final state. It starts from scratch, from weights to be
    fine-tuned (`start_from`), or from the state of a whole epoch, which takes precedence.

    `on_progress` receives the steps done, the total, and the loss of the last step; `on_epoch` receives the state after
    each epoch, on every worker. `wrap` synchronises the workers' gradients (and moves the module to their device).
    Raises StageError if the loss is not finite.
    """
    torch.manual_seed(config.seed)
    module = learning.network(network)
    state = resume_from or State()
    if start_from and not state.weights:
        module.load_state_dict(start_from)
    if state.weights:
        module.load_state_dict(state.weights)
    joined = wrap(module)
    optimiser = make_optimiser(module, config)
    if state.optimiser:
        optimiser.load_state_dict(state.optimiser)
    while state.steps < config.steps:
        start = time.monotonic()
        torch.manual_seed(config.seed + (state.epoch << 20) + rank)
        steps = min(config.epoch_steps, config.steps - state.steps)
        batches = training_batches(
            shards,
            lambda sample, rng: learning.augment(sample, rng, augmentation),
            config,
            epoch=state.epoch,
            steps=steps,
            rank=rank,
            world=world,
        )
        loss = _epoch(learning, joined, optimiser, batches, config, state.steps, on_progress)
        _share_buffers(module)
        figures = validate(learning, module, validation_batches(shards, config.batch, rank=rank, world=world), config)
        figures = {"loss": loss} | figures | {"seconds": round(time.monotonic() - start, 2)}
        if not all(map(math.isfinite, figures.values())):
            raise StageError(
                f"training diverged within {config.epoch_steps} steps of step {state.steps}: the loss is no number. "
                "Give a lower `learning_rate`, or a longer `warmup`."
            )
        state = _after(state, steps, figures, module, optimiser, config)
        on_epoch(state)
    return state


def make_optimiser(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns an optimiser that decays matrices and kernels, but not biases and normalisation layers."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    free = [p for p in module.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Returns the learning rate at `step`: a linear rise over the warm-up, then a cosine to zero. It depends on the
    step alone, so resuming restores nothing."""
    rise = config.warmup * config.steps
    if step < rise:
        return config.learning_rate * (step + 1) / (rise + 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (config.steps - rise)))


def _epoch(
    learning: Learning,
    joined: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Batch],
    config: TrainConfig,
    first_step: int,
    on_progress: Callable[[int, int, float], None],
) -> float:
    """Takes one step per batch and returns the mean loss over steps and workers."""
    joined.train()
    losses = []
    for step, (samples, labels) in enumerate(batches, start=first_step):
        inputs, targets = learning.parts(samples, labels)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        loss = _loss(learning, joined, inputs, targets, config)[0]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        on_progress(step + 1, config.steps, losses[-1])
    return float(_summed(np.array([np.mean(losses)]))[0]) / _workers()


@torch.no_grad()
def validate(learning: Learning, module: nn.Module, batches: Iterable[Batch], config: TrainConfig) -> dict[str, float]:
    """Returns loss and accuracy over all workers' batches; empty if there is no validation sample."""
    module.eval()
    sums = np.zeros(3)  # loss, score, samples
    for samples, labels in batches:
        inputs, targets = learning.parts(samples, labels)
        loss, output, target = _loss(learning, module, inputs, targets, config)
        sums += (float(loss) * len(samples), float(learning.score(output, target).sum()), len(samples))
    total_loss, right, count = _summed(sums).tolist()  # plain numbers: a checkpoint may hold no others
    return {"validation_loss": total_loss / count, "validation_accuracy": right / count} if count else {}


def _loss(
    learning: Learning, module: nn.Module, inputs: np.ndarray, targets: np.ndarray, config: TrainConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns loss, output and target of one batch."""
    given, target = _tensor(inputs, module), _tensor(targets, module)
    with torch.autocast(given.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        output = module(given)[0].float()
    return learning.loss(output, target, **config.loss), output, target


def _after(
    state: State,
    steps: int,
    figures: dict[str, float],
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
) -> State:
    row = {"epoch": state.epoch + 1, "steps": state.steps + steps} | figures
    history = [*state.history, row]
    weights = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
    lowest = min(h.get("validation_loss", 0.0) for h in history)
    best = weights if row.get("validation_loss", 0.0) <= lowest else state.best
    return State(
        epoch=state.epoch + 1,
        steps=state.steps + steps,
        history=history,
        weights=weights,
        best=best if config.keep == "best" else {},
        optimiser=copy.deepcopy(optimiser.state_dict()),  # its tensors keep changing
    )


def _tensor(array: np.ndarray, module: nn.Module) -> torch.Tensor:
    return torch.from_numpy(array).to(next(module.parameters()).device)


def _workers() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _summed(values: np.ndarray) -> np.ndarray:
    """Returns the sum over all workers."""
    if _workers() == 1:
        return values
    total = torch.from_numpy(values)
    dist.all_reduce(total)
    return total.numpy()


def _share_buffers(module: nn.Module) -> None:
    """Replaces every running statistic by the mean over the workers, each of which saw its own part of the epoch."""
    if _workers() > 1:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= _workers()
