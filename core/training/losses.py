"""Training losses: multi-class Dice, and Dice plus cross-entropy.

Both take logits (batch, class, i, j, k) of any floating type and a target (batch, i, j, k) of integer class indices,
compute in float32 (sums in float16 overflow, sums in bfloat16 have errors of 5e-4), and return a float32 scalar on the
device of the logits without synchronising.

With probabilities p = softmax(logits), the one-hot target t, the smoothing s, and sums over the N voxels of a
sub-volume (or of the batch), the score of class c is

    D_c = (2 sum p_c t_c + s) / (sum p_c + sum t_c + s)     if the target contains the class
    D_c = 1 - sum p_c / N                                   if it does not

and the loss is 1 minus the mean of D_c over classes and sub-volumes.

The second case departs from the usual formula, by which an absent class scores s / (sum p_c + s): nearly 0 unless the
probabilities vanish, so that a perfect prediction loses 1 / classes, and with hardly any gradient (none for s = 0), so
that false positives are not penalised. Squares in the denominator (Milletari et al. 2016) do not change that. Here a
class absent from target and prediction scores 1 with no gradient, and false positives are penalised in proportion.

Voxels with the ignore label (:data:`core.labels.IGNORE_INDEX`) are left out of all sums and of N, so that the loss is
that of the other voxels alone; a sub-volume without any other voxel is left out of the mean.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.config import LossConfig
from core.labels import IGNORE_INDEX

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DiceOptions:
    """Variant of the Dice loss; the attributes are the parameters of :func:`dice_loss`.

    Attributes
    ----------
    ignore : bool. Whether targets may have the ignore label; without it such a voxel belongs to no class.
    """

    include_background: bool = True
    smooth: float = 1e-5
    batch_dice: bool = False
    squared: bool = False
    ignore: bool = False


def dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    include_background: bool = True,
    smooth: float = 1e-5,
    batch_dice: bool = False,
    squared: bool = False,
) -> Tensor:
    """Multi-class Dice loss, 0 (perfect) to 1; the formula is in the module docstring.

    Parameters
    ----------
    logits : Tensor, floating, shape (batch, class, i, j, k).
    target : Tensor, integer, shape (batch, i, j, k). Class indices; a voxel with another value belongs to no class.
    include_background : bool. Whether class 0 is part of the mean.
    smooth : float. Smoothing s; may be 0.
    batch_dice : bool. Sum over the voxels of the batch (one score per class) instead of each sub-volume.
    squared : bool. Squares in the denominator (Milletari et al. 2016), for comparison.

    Returns
    -------
    Tensor, float32 scalar.

    Raises
    ------
    ValueError
        If shapes or types do not match, or no class remains without the background.
    """
    return _dice_loss(logits, target, DiceOptions(include_background, smooth, batch_dice, squared))


def dice_ce_loss(
    logits: Tensor,
    target: Tensor,
    *,
    include_background: bool = True,
    smooth: float = 1e-5,
    batch_dice: bool = False,
    squared: bool = False,
) -> Tensor:
    """Dice loss plus the mean cross-entropy over voxels; the cross-entropy always includes the background.

    Parameters, return value and errors are those of :func:`dice_loss`.
    """
    return _dice_ce_loss(logits, target, DiceOptions(include_background, smooth, batch_dice, squared))


def build_loss(config: LossConfig, ignore: bool = False) -> LossFunction:
    """The configured loss as a function of logits and target.

    Parameters
    ----------
    config : LossConfig.
    ignore : bool. Whether targets may have the ignore label.
    """
    losses = {"dice": _dice_loss, "dice_ce": _dice_ce_loss}
    options = DiceOptions(config.include_background, config.dice_smooth, config.batch_dice, ignore=ignore)
    return functools.partial(losses[config.loss], options=options)


def _dice_loss(logits: Tensor, target: Tensor, options: DiceOptions) -> Tensor:
    onehot = _onehot(logits, target)
    return _dice(torch.softmax(logits.float(), dim=1), onehot, target, options)


def _dice_ce_loss(logits: Tensor, target: Tensor, options: DiceOptions) -> Tensor:
    onehot = _onehot(logits, target)
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    dice = _dice(log_probabilities.exp(), onehot, target, options)
    # Not nll_loss, which has no deterministic CUDA forward in 3D; where() because -inf times 0 is NaN.
    total = -torch.where(onehot, log_probabilities, 0.0).sum()
    voxels = (target != IGNORE_INDEX).sum().clamp_min(1) if options.ignore else target.numel()
    return dice + total / voxels


def _dice(p: Tensor, onehot: Tensor, target: Tensor, options: DiceOptions) -> Tensor:
    """Dice loss of probabilities (batch, class, i, j, k), float32, and a one-hot target, bool."""
    if not options.include_background:
        if p.shape[1] < 2:
            raise ValueError("expected at least two classes to leave the background out, got one")
        p, onehot = p[:, 1:], onehot[:, 1:]
    summed = (0, 2, 3, 4) if options.batch_dice else (2, 3, 4)
    voxels: Tensor | int = p[:, 0].numel() if options.batch_dice else p[0, 0].numel()
    if options.ignore:
        counted = (target != IGNORE_INDEX)[:, None]
        p = torch.where(counted, p, 0.0)
        voxels = counted.sum(summed, dtype=torch.float32)
    true_positive = torch.where(onehot, p, 0.0).sum(summed)
    truth = onehot.sum(summed, dtype=torch.float32)
    predicted = p.sum(summed)
    denominator = (p.square().sum(summed) if options.squared else predicted) + truth + options.smooth
    absent = truth == 0
    # The denominator is at least 1 where the class is present; the 1 elsewhere keeps the unused gradient finite.
    present_score = (2 * true_positive + options.smooth) / torch.where(absent, 1.0, denominator)
    if not isinstance(voxels, Tensor):
        return 1 - torch.where(absent, 1 - predicted / voxels, present_score).mean()
    score = torch.where(absent, 1 - predicted / voxels.clamp_min(1), present_score)
    weight = (voxels > 0).float()
    return ((1 - score) * weight).sum() / (weight.sum() * p.shape[1]).clamp_min(1)


def _onehot(logits: Tensor, target: Tensor) -> Tensor:
    """The target as bool (batch, class, i, j, k), after checking shapes and types."""
    if logits.ndim != 5 or not logits.is_floating_point():
        raise ValueError(
            f"expected floating logits (batch, classes, i, j, k), got {logits.dtype} of shape {tuple(logits.shape)}"
        )
    expected = (logits.shape[0], *logits.shape[2:])
    if tuple(target.shape) != expected:
        raise ValueError(
            f"expected a target of shape {expected} for logits of shape {tuple(logits.shape)}, "
            f"got {tuple(target.shape)}"
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"expected a target of integer class indices, got {target.dtype}")
    if logits.numel() == 0:
        raise ValueError(f"expected at least one voxel, got logits of shape {tuple(logits.shape)}")
    classes = torch.arange(logits.shape[1], device=target.device, dtype=target.dtype)
    return target[:, None] == classes.view(1, -1, 1, 1, 1)
