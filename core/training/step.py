"""One optimizer step: forward pass, loss, backward pass, guarded update. It never synchronises with the device.

A non-finite gradient sets a flag on the device that stays set: no later update reaches the weights. The trainer reads
the flag now and then, together with the number of the first such step.

In fp16 the loss is scaled, so that small gradients do not vanish (:class:`torch.amp.GradScaler`). A gradient that
overflows although the loss is finite only skips the step and halves the scale; without a scale left to halve, it is a
non-finite gradient like any other.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.compute.device import cudnn_benchmark
from core.compute.distributed import SINGLE_PROCESS, DistributedContext
from core.compute.precision import autocast, wide_dtype
from core.config import OptimConfig
from core.losses.build import LossFunction
from core.sampling.patches import Batch
from core.training.optim import ExponentialMovingAverage, build_optimizer, set_learning_rate, step_if_finite

Launch = Callable[[Sequence[Batch]], None]


class TrainingStep:
    """An optimizer step, with the running loss and the non-finite flag on the device.

    Parameters
    ----------
    model : Module. On the training device.
    loss : callable. Of the network's output and target (batch, i, j, k); :mod:`core.losses.build`.
    config : OptimConfig. Optimizer, gradient accumulation, clipping, EMA.
    precision : str. "fp32", "bf16" or "fp16".
    distributed : DistributedContext. Processes whose gradients are averaged.

    Attributes
    ----------
    network : Module. The model, wrapped for gradient averaging where there are several processes.
    optimizer : Optimizer.
    ema : ExponentialMovingAverage or None. Moving average of the weights.
    found_inf : Tensor, float32 scalar. 1 from the first non-finite gradient on.
    scaler : GradScaler. Scales the loss in fp16; without effect in other precisions.
    launch : callable. Runs the device work of a step: :meth:`compute`, or a faster equivalent
        (:mod:`core.training.acceleration`).
    steps : int. Steps since the last :meth:`reset_loss`.
    wide : dtype. Of what is summed up over many steps.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        config: OptimConfig,
        precision: str,
        distributed: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        self.model, self.loss, self.config, self.precision = model, loss, config, precision
        self.distributed = distributed
        self.network = distributed.wrap_model(model)
        self.device = next(model.parameters()).device
        self.optimizer = build_optimizer(model, config)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.ema = ExponentialMovingAverage(model, config.ema) if config.ema > 0 else None
        self.found_inf = torch.zeros((), device=self.device)
        self.wide = wide_dtype(self.device)
        self.first_failed_step = torch.full((), math.inf, device=self.device, dtype=self.wide)
        self.loss_sum = torch.zeros((), device=self.device)
        self.steps = 0
        self.launch: Launch = self.compute

    def __call__(self, batches: Sequence[Batch], learning_rate: float, number: int) -> None:
        """Update the weights once, with the mean gradient of the batches.

        Parameters
        ----------
        batches : sequence of (image, label). Image float32, shape (batch, channel, i, j, k); label uint8, shape
            (batch, i, j, k).
        learning_rate : float.
        number : int. Number of the step, which :meth:`read_loss` returns if its gradient is not finite.
        """
        set_learning_rate(self.optimizer, learning_rate)
        self.launch(batches)
        failed = torch.where(self.found_inf > 0, float(number), math.inf)
        torch.minimum(self.first_failed_step, failed, out=self.first_failed_step)
        if self.ema is not None:
            self.ema.update()
        self.steps += 1

    def compute(self, batches: Sequence[Batch]) -> None:
        """The device work of a step: gradients, guarded update, running loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with cudnn_benchmark(self.device):
            for number, (image, label) in enumerate(batches, 1):
                synchronise = number == len(batches)
                with (
                    contextlib.nullcontext() if synchronise else self.distributed.no_sync(self.network),
                    self.distributed.detect_lost_process(),
                ):
                    loss = self.compute_loss(image, label) / len(batches)
                    self.scaler.scale(loss).backward()
                self.loss_sum += loss.detach()
        overflow = self._unscale_gradients() if self.scaler.is_enabled() else None
        step_if_finite(self.optimizer, self.parameters, self.config.clip_norm, self.found_inf, overflow)
        if self.scaler.is_enabled():
            self.scaler.update()

    def _unscale_gradients(self) -> Tensor:
        """Whether a non-finite gradient would be an overflow of the scaled loss, as a bool scalar on the device, the
        same on every process, as the gradients are."""
        self.scaler.unscale_(self.optimizer)
        scale = self.scaler.scale(torch.ones((), device=self.device))
        loss = self.distributed.all_reduce(self.loss_sum.clone())
        return torch.isfinite(loss) & (scale > 1)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of mixed precision in which the network runs."""
        return autocast(self.device, self.precision)

    def compute_loss(self, image: Tensor, label: Tensor) -> Tensor:
        """Loss of one batch, float32 scalar."""
        with self.autocast():
            output = self.network(image)
        return self.loss(output, label)

    def read_loss(self) -> tuple[float, int | None]:
        """Mean loss over all processes since the last :meth:`reset_loss`, and the number of the first step with a
        non-finite gradient, if any. Synchronises with the device; every process has to call it."""
        loss = self.distributed.all_reduce(self.loss_sum.to(self.wide))
        total, failed = torch.stack([loss, self.first_failed_step]).tolist()
        mean = total / max(self.steps, 1) / self.distributed.world_size
        return mean, None if math.isinf(failed) else int(failed)

    def reset_loss(self) -> None:
        """Start a new running mean of the loss."""
        self.loss_sum.zero_()
        self.steps = 0
