"""One update of the weights: forward pass, loss, backward pass, guarded step. Nothing in it waits for the device.

A gradient that is not finite closes a latch on the device: from then on no update reaches the weights, and the trainer,
which reads the latch now and then, learns at which step that was.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from core.compute.device import cudnn_benchmark
from core.compute.distributed import ALONE, DistributedContext
from core.compute.precision import autocast
from core.config import OptimConfig
from core.sampling.patches import Batch
from core.training.losses import Loss
from core.training.optim import WeightAverage, build_optimizer, guarded_step, set_learning_rate

Launch = Callable[[Sequence[Batch]], None]


class TrainingStep:
    """The step, and what it keeps on the device until somebody reads it.

    Parameters
    ----------
    model : on the device that is to train it.
    loss : of logits (batch, classes, i, j, k) and target (batch, i, j, k).
    config : optimizer, accumulation, clipping, running average.
    precision : "fp32" or "bf16".
    team : of processes, each of which takes a step with batches of its own; their gradients are averaged.

    Attributes
    ----------
    network : the model as it is called in training.
    optimizer : the update rule.
    average : running average of the weights, or ``None``.
    launch : how the device's part of a step is started: :meth:`compute`, unless somebody knows a faster way.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, config: OptimConfig, precision: str, team: DistributedContext = ALONE
    ) -> None:
        self.model, self.loss, self.config, self.precision, self.team = model, loss, config, precision, team
        self.network = team.wrap(model)
        self.device = next(model.parameters()).device
        self.optimizer = build_optimizer(model, config)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.average = WeightAverage(model, config.ema) if config.ema > 0 else None
        self.latch = torch.zeros((), device=self.device)
        self.failed_at = torch.full((), math.inf, device=self.device, dtype=torch.float64)
        self.loss_sum = torch.zeros((), device=self.device)
        self.steps = 0
        self.launch: Launch = self.compute

    def __call__(self, batches: Sequence[Batch], rate: float, number: int) -> None:
        """Update the weights once from some batches, whose gradients are averaged.

        Parameters
        ----------
        batches : image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k), each.
        rate : the learning rate.
        number : of the step; told again where its gradient is not finite.
        """
        set_learning_rate(self.optimizer, rate)
        self.launch(batches)
        failed = torch.where(self.latch > 0, float(number), math.inf)
        torch.minimum(self.failed_at, failed, out=self.failed_at)
        if self.average is not None:
            self.average.update()
        self.steps += 1

    def compute(self, batches: Sequence[Batch]) -> None:
        """What the device does in a step: gradients, guarded update, sum of the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with cudnn_benchmark(self.device):
            for number, (image, label) in enumerate(batches, 1):
                last = number == len(batches)
                with contextlib.nullcontext() if last else self.team.no_sync(self.network), self.team.guard():
                    loss = self.loss_of(image, label) / len(batches)
                    loss.backward()
                self.loss_sum += loss.detach()
        guarded_step(self.optimizer, self.parameters, self.config.clip_norm, self.latch)

    def loss_of(self, image: Tensor, label: Tensor) -> Tensor:
        """The loss of one batch, float32 scalar."""
        with autocast(self.device, self.precision):
            logits = self.network(image)
        return self.loss(logits, label)

    def read(self) -> tuple[float, int | None]:
        """Mean loss since the last :meth:`reset`, over the team, and the number of the first step that failed, if one
        did; waits for the device. The whole team has to ask."""
        loss = self.team.sum(self.loss_sum.double())
        total, failed = torch.stack([loss, self.failed_at]).tolist()
        return total / max(self.steps, 1) / self.team.size, None if math.isinf(failed) else int(failed)

    def reset(self) -> None:
        """Begin a new mean of the loss."""
        self.loss_sum.zero_()
        self.steps = 0
