"""Optimizer, learning-rate schedule, guarded update and moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from core.config import OptimConfig
from core.training.muon import Muon

POLY_POWER = 0.9
TRAPEZOID_DECAY_FRACTION = 0.5  # of the run
ONE_CYCLE_WARMUP = 0.3  # of the run, where the configuration gives none
ONE_CYCLE_START = 1 / 25  # of the maximum learning rate
FOUND_INF_IGNORED = ("mps",)  # devices whose fused optimizers take ``found_inf`` and update the weights all the same


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The configured optimizer; all but rmsprop can skip an update without synchronising with the device."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, weight_decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        sgd = torch.optim.SGD(parameters, lr=lr, momentum=config.momentum, weight_decay=weight_decay, fused=True)
        if config.momentum > 0:  # torch allocates the buffer in the first step, uninitialised if that is skipped
            for p in parameters:
                sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return sgd
    if config.optimizer == "muon":
        return Muon(model, lr, config.momentum, weight_decay)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    return torch.optim.RMSprop(parameters, lr=lr, momentum=config.momentum, weight_decay=weight_decay)


def learning_rate_at(config: OptimConfig, progress: float) -> float:
    """Learning rate at a fraction of the run.

    Parameters
    ----------
    config : OptimConfig. Learning rate, schedule and warm-up (a fraction of the run).
    progress : float. Fraction of the run, 0 to 1; values outside are clamped.

    Notes
    -----
    After a linear warm-up: constant; cosine, ``(1 + cos(pi p)) / 2`` (Loshchilov and Hutter 2017); or poly,
    ``(1 - p) ** 0.9`` (Chen et al. 2018). One cycle (Smith and Topin 2018) rises along a cosine from 1/25 of the rate
    to the full rate during the warm-up (30 % of the run by default) and falls along a cosine to 0. A trapezoid stays at
    the full rate until the last half of the run and falls linearly to 0.
    """
    progress = min(max(progress, 0.0), 1.0)
    if config.lr_schedule == "one_cycle":
        return config.learning_rate * _one_cycle(progress, config.warmup or ONE_CYCLE_WARMUP)
    if progress < config.warmup:
        return config.learning_rate * max(progress / config.warmup, 0.01)
    p = (progress - config.warmup) / (1 - config.warmup)
    factor = {
        "constant": 1.0,
        "cosine": (1 + math.cos(math.pi * p)) / 2,
        "poly": (1 - p) ** POLY_POWER,
        "trapezoid": min(1.0, (1 - progress) / TRAPEZOID_DECAY_FRACTION),
    }
    return config.learning_rate * factor[config.lr_schedule]


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of every parameter group, scaled by the group's ``lr_scale``. A tensor rate (as a captured CUDA
    graph needs) is filled in place."""
    for group in optimizer.param_groups:
        lr = learning_rate * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def step_if_finite(
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    clip_norm: float,
    found_inf: Tensor | None = None,
    overflow: Tensor | None = None,
) -> Tensor:
    """Take an optimizer step unless the gradient is non-finite, without synchronising with the device.

    Parameters
    ----------
    optimizer : Optimizer.
    parameters : list of Parameter. All trainable parameters.
    clip_norm : float. Maximum norm of the whole gradient; 0 disables clipping.
    found_inf : Tensor, float32 scalar, optional. Where it is 1 the step is skipped too; set to 1 by a non-finite
        gradient.
    overflow : Tensor, bool scalar, optional. Where it is true, a non-finite gradient skips this step only.

    Returns
    -------
    Tensor, float32 scalar on the device. 1 if the step was skipped.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    skipped = (~torch.isfinite(norm)).float()
    if found_inf is not None:
        failed = skipped if overflow is None else torch.where(overflow, 0.0, skipped)
        torch.maximum(failed, found_inf, out=found_inf)
        skipped = found_inf if overflow is None else torch.maximum(skipped, found_inf)
    if clip_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    ignored = skipped.device.type in FOUND_INF_IGNORED
    if ignored or isinstance(optimizer, torch.optim.RMSprop):
        if not bool(skipped):  # no fused form that could skip on the device: one deliberate synchronisation
            optimizer.step()
    else:
        optimizer.found_inf = skipped  # type: ignore[attr-defined]  # where it is 1 the update is skipped
        optimizer.step()
    return skipped


def _one_cycle(progress: float, warmup: float) -> float:
    if progress < warmup:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - math.cos(math.pi * progress / warmup)) / 2
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


class ExponentialMovingAverage:
    """Moving average of a model's weights; buffers such as batch statistics are copied.

    The decay warms up as ``(1 + n) / (10 + n)``, so that early averages do not depend on the initial weights.

    Parameters
    ----------
    model : Module. The model in training.
    decay : float. Weight of the previous average.
    updates : int. Updates made before, for a resumed run.

    Attributes
    ----------
    values : dict of Tensor. Averaged state dict.
    updates : int. Updates made.
    """

    def __init__(self, model: nn.Module, decay: float, updates: int = 0) -> None:
        self.decay = decay
        self.updates = updates
        weights = model.state_dict()  # references to the tensors, which change in place
        self.values = {k: v.detach().clone() for k, v in weights.items()}
        names = {k for k, _ in model.named_parameters(remove_duplicate=False)}  # also of weights that layers share
        self._averaged = [(self.values[k], weights[k]) for k in self.values if k in names]
        self._copied = [(self.values[k], weights[k]) for k in self.values if k not in names]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights of the model."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, weights = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(averages, weights, weight)
        for copy, buffer in self._copied:
            copy.copy_(buffer)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Load a stored average."""
        for name, value in values.items():
            self.values[name].copy_(value)


@contextmanager
def averaged_weights(model: nn.Module, ema: ExponentialMovingAverage | None) -> Iterator[None]:
    """While the block runs the model has its averaged weights; no change without an average."""
    if ema is None:
        yield
        return
    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(ema.values)
    try:
        yield
    finally:
        model.load_state_dict(weights)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[int, dict[str, Tensor]]:
    """Tensors of the optimizer state, by the index of the parameter in the model."""
    indices = {id(p): n for n, p in enumerate(model.parameters())}
    return {
        indices[id(p)]: {key: value for key, value in state.items() if isinstance(value, Tensor)}
        for p, state in optimizer.state.items()
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[int, Mapping[str, Tensor]]
) -> None:
    """Load the tensors of :func:`optimizer_tensors`. Hyperparameters such as the learning rate are not restored."""
    indices = {id(p): n for n, p in enumerate(model.parameters())}
    ordered = [indices[id(p)] for group in optimizer.param_groups for p in group["params"]]
    state_dict = optimizer.state_dict()
    state_dict["state"] = {position: dict(tensors[n]) for position, n in enumerate(ordered) if n in tensors}
    optimizer.load_state_dict(state_dict)
