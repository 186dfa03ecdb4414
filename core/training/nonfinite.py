"""Detects a non-finite loss or gradient and names the sub-volume that caused it."""

from __future__ import annotations

import math

import torch

from core.errors import UserError
from core.training.batch_loader import BatchLoader
from core.training.step import TrainingStep


class NonFiniteLossError(UserError):
    """The training loss or its gradient is not finite."""


def finite_mean_loss(training_step: TrainingStep, loader: BatchLoader, steps_done: int) -> float:
    """Mean loss since the last report. Synchronises with the device.

    Parameters
    ----------
    training_step : TrainingStep. Holds the running loss and the number of the first failed step.
    loader : BatchLoader. Reproduces the batches of that step.
    steps_done : int. Optimizer steps done.

    Raises
    ------
    NonFiniteLossError
        If the loss, or a gradient since the start of the run, is not finite.
    """
    loss, failed_step = training_step.read_loss()
    if failed_step is None and math.isfinite(loss):
        return loss
    step = steps_done - 1 if failed_step is None else failed_step
    has_checkpoint = step >= loader.steps_per_epoch  # at least that after the first epoch
    start = "with the last checkpoint, which is finite (--init-from), and " if has_checkpoint else ""
    raise NonFiniteLossError(
        f"the loss or its gradient is not finite any more at step {step + 1} (epoch "
        f"{step // loader.steps_per_epoch + 1}): {_find_cause(training_step, loader, step)}; no such step reached the "
        f"weights: begin a new run {start}with a lower learning_rate, with clip_norm, or with precision fp32"
    )


def _find_cause(training_step: TrainingStep, loader: BatchLoader, step: int) -> str:
    """The sub-volume with a non-finite intensity or loss, or else the candidates, from the reloaded batches."""
    candidates = []
    for (image, label), locations in zip(loader.reload(step), loader.locations(step), strict=True):
        for n, location in enumerate(locations):
            name = (
                f"sub-volume at voxel {','.join(map(str, location.start))} of {loader.subjects.ids[location.subject]}"
            )
            if not bool(torch.isfinite(image[n]).all()):
                return f"{name} has values that are not finite"
            with torch.no_grad():
                if not bool(torch.isfinite(training_step.compute_loss(image[n : n + 1], label[n : n + 1]))):
                    return f"{name} has a loss that is not finite"
            candidates.append(name)
    return f"the gradient of {' or '.join(candidates)}"
