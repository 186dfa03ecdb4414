"""Optimizer, learning-rate schedule and running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from core.config import OptimConfig
from core.training.muon import Muon

POLY_POWER = 0.9
FALL_SHARE = 0.5  # of the run, in which a trapezoid falls
ONE_CYCLE_RISE = 0.3  # of the run
ONE_CYCLE_START = 1 / 25  # of the highest rate


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The configured update rule over all parameters; all but rmsprop skip an update without waiting for the device."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        sgd = torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay, fused=True)
        if config.momentum > 0:  # made by torch only in a first step, and left uninitialised where that is skipped
            for p in parameters:
                sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return sgd
    if config.optimizer == "muon":
        return Muon(model, rate, config.momentum, decay)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.RMSprop(parameters, lr=rate, momentum=config.momentum, weight_decay=decay)


def learning_rate(config: OptimConfig, progress: float) -> float:
    """Learning rate at ``progress`` (0 to 1) of the run.

    After a linear warm-up: constant; cosine, ``(1 + cos(pi p)) / 2`` (Loshchilov and Hutter 2017); or poly,
    ``(1 - p) ** 0.9`` (Chen et al. 2018). One cycle (Smith and Topin 2018) rises from 1/25 to the full rate along a
    cosine over the warm-up, or the first 30 % where none is given, and falls along another to 0. A trapezoid stays at
    the full rate until the last half of the run, and falls to 0 along a straight line.
    """
    progress = min(max(progress, 0.0), 1.0)
    if config.lr_schedule == "one_cycle":
        return config.learning_rate * _one_cycle(progress, config.warmup or ONE_CYCLE_RISE)
    if progress < config.warmup:
        return config.learning_rate * max(progress / config.warmup, 0.01)
    p = (progress - config.warmup) / (1 - config.warmup)
    factor = {
        "constant": 1.0,
        "cosine": (1 + math.cos(math.pi * p)) / 2,
        "poly": (1 - p) ** POLY_POWER,
        "trapezoid": min(1.0, (1 - progress) / FALL_SHARE),
    }
    return config.learning_rate * factor[config.lr_schedule]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate; a rate that is a tensor (as a recorded CUDA graph needs) is filled."""
    for group in optimizer.param_groups:
        own = rate * group.get("rate_share", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def guarded_step(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip_norm: float, latch: Tensor | None = None
) -> Tensor:
    """Take a step unless the gradient is not finite; returns 1.0 where it was not, on the device (no synchronisation).

    Parameters
    ----------
    optimizer, parameters : of the model.
    clip_norm : limits the norm of the whole gradient; 0 does not.
    latch : float32 scalar; where it is 1 the step is skipped too, and it becomes 1 where the gradient was not finite.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    bad = (~torch.isfinite(norm)).float()
    if latch is not None:
        bad = torch.maximum(bad, latch, out=latch)
    if clip_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    if isinstance(optimizer, torch.optim.RMSprop):
        if not bool(bad):  # no fused form that could skip on the device: one deliberate synchronisation
            optimizer.step()
    else:
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # where it is 1 the update is skipped
        optimizer.step()
    return bad


def _one_cycle(progress: float, rise: float) -> float:
    if progress < rise:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - math.cos(math.pi * progress / rise)) / 2
    return (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2


class WeightAverage:
    """Exponential moving average of a model's weights; buffers (batch statistics) are copied as they are.

    The decay warms up as ``(1 + n) / (10 + n)``, so that early averages are not dominated by the random start.
    """

    def __init__(self, model: nn.Module, decay: float, updates: int = 0) -> None:
        self.decay = decay
        self.updates = updates
        now = model.state_dict()  # the model's own tensors, which change in place
        self.values = {k: v.detach().clone() for k, v in now.items()}
        names = {k for k, _ in model.named_parameters()}
        self._averaged = [(self.values[k], now[k]) for k in self.values if k in names]
        self._copied = [(self.values[k], now[k]) for k in self.values if k not in names]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's present weights."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        average, own = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(average, own, weight)
        for kept, value in self._copied:
            kept.copy_(value)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over stored values."""
        for name, value in values.items():
            self.values[name].copy_(value)


@contextmanager
def averaged_weights(model: nn.Module, average: WeightAverage | None) -> Iterator[None]:
    """While the block runs the model holds the running average of its weights, if there is one."""
    if average is None:
        yield
        return
    own = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(average.values)
    try:
        yield
    finally:
        model.load_state_dict(own)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[int, dict[str, Tensor]]:
    """The optimizer's state by the parameter's number in the model, tensors only."""
    numbers = {id(p): n for n, p in enumerate(model.parameters())}
    return {
        numbers[id(p)]: {key: value for key, value in state.items() if isinstance(value, Tensor)}
        for p, state in optimizer.state.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[int, Mapping[str, Tensor]]
) -> None:
    """Put back what :func:`optimizer_tensors` gave; learning rate and the like come from the configuration."""
    numbers = {id(p): n for n, p in enumerate(model.parameters())}
    ordered = [numbers[id(p)] for group in optimizer.param_groups for p in group["params"]]
    current = optimizer.state_dict()
    current["state"] = {place: dict(tensors[n]) for place, n in enumerate(ordered) if n in tensors}
    optimizer.load_state_dict(current)
