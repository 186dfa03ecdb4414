"""Optimizer, learning-rate schedule and running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from core.config import OptimConfig

POLY_POWER = 0.9


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The configured update rule over all parameters; fused where torch has a fused one (all but rmsprop)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        sgd = torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay, fused=True)
        if config.momentum > 0:  # made by torch only in a first step, and left uninitialised where that is skipped
            for p in parameters:
                sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return sgd
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.RMSprop(parameters, lr=rate, momentum=config.momentum, weight_decay=decay)


def learning_rate(config: OptimConfig, progress: float) -> float:
    """Learning rate at ``progress`` (0 to 1) of the run.

    After a linear warm-up: constant; cosine, ``(1 + cos(pi p)) / 2`` (Loshchilov and Hutter 2017); or poly,
    ``(1 - p) ** 0.9`` (Chen et al. 2018).
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < config.warmup:
        return config.learning_rate * max(progress / config.warmup, 0.01)
    p = (progress - config.warmup) / (1 - config.warmup)
    factor = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * p)) / 2, "poly": (1 - p) ** POLY_POWER}
    return config.learning_rate * factor[config.lr_schedule]


def guarded_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip_norm: float) -> Tensor:
    """Take a step unless the gradient is not finite; returns 1.0 where it was not, on the device (no synchronisation).

    ``clip_norm`` limits the norm of the whole gradient; 0 does not.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    bad = (~torch.isfinite(norm)).float()
    if clip_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    if isinstance(optimizer, torch.optim.RMSprop):
        if not bool(bad):  # no fused form that could skip on the device: one deliberate synchronisation
            optimizer.step()
    else:
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # the fused kernels skip the update where it is 1
        optimizer.step()
    return bad


class WeightAverage:
    """Exponential moving average of a model's weights; buffers (batch statistics) are copied as they are.

    The decay warms up as ``(1 + n) / (10 + n)``, so that early averages are not dominated by the random start.
    """

    def __init__(self, model: nn.Module, decay: float, updates: int = 0) -> None:
        self.decay = decay
        self.updates = updates
        self.values = {k: v.detach().clone() for k, v in model.state_dict().items()}
        names = {k for k, _ in model.named_parameters()}
        self._averaged = [k for k in self.values if k in names]
        self._copied = [k for k in self.values if k not in names]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = model.state_dict()
        torch._foreach_lerp_([self.values[k] for k in self._averaged], [now[k] for k in self._averaged], weight)
        for name in self._copied:
            self.values[name].copy_(now[name])

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


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The optimizer's state by parameter number, tensors only."""
    state = optimizer.state_dict()["state"]
    return {
        int(index): {key: value for key, value in entry.items() if isinstance(value, Tensor)}
        for index, entry in state.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Put back what :func:`optimizer_tensors` gave; learning rate and the like come from the configuration."""
    current = optimizer.state_dict()
    current["state"] = {index: dict(entry) for index, entry in tensors.items()}
    optimizer.load_state_dict(current)
