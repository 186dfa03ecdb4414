"""What training minimises: the multi-class Dice loss, and Dice plus cross-entropy.

Both take logits (batch, classes, i, j, k) of any floating type and a target (batch, i, j, k) of class indices of any
integer type, compute in float32 whatever the type of the logits (sums in float16 overflow, sums in bfloat16 are off by
5e-4), and return a float32 scalar on the logits' device without waiting for it.

With probabilities p = softmax(logits), t the target as one channel of 0 and 1 per class, s the smoothing, sums over the
N voxels of a sub-volume (or of the whole batch), the score of class c is

    D_c = (2 sum p_c t_c + s) / (sum p_c + sum t_c + s)     where the truth has the class
    D_c = 1 - sum p_c / N                                   where it has not

and the loss is 1 minus the mean of D_c over classes and sub-volumes.

The second line is ours. With the first formula alone a class that is absent from the truth scores s / (sum p_c + s):
next to 0 unless the probabilities vanish altogether, so that a perfect prediction would seem to lose 1 / classes, and
with no gradient to speak of (none at all for s = 0), so that false alarms would go unpunished; squares in the
denominator (Milletari et al. 2016) change nothing about that. As it is, a class absent from truth and prediction scores
1 and pulls nowhere, and every false alarm costs in proportion.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from core.config import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    include_background: bool = True,
    smooth: float = 1e-5,
    batch_dice: bool = False,
    squared: bool = False,
) -> Tensor:
    """Multi-class Dice loss, 0 (perfect) to 1; the formula is in the module's docstring.

    Parameters
    ----------
    logits : (batch, classes, i, j, k), floating.
    target : (batch, i, j, k), class indices 0 to classes - 1, integer. A voxel with another value counts for no class.
    include_background : whether class 0 is in the mean.
    smooth : s; 0 is allowed.
    batch_dice : sums over the batch's voxels, one score per class, instead of one per class and sub-volume.
    squared : squares in the denominator (Milletari et al. 2016), for comparison.

    Returns
    -------
    float32 scalar.

    Raises
    ------
    ValueError
        If shapes or types do not fit, or no class is left without the background.
    """
    onehot = _onehot(logits, target)
    probabilities = torch.softmax(logits.float(), dim=1)
    return _dice(probabilities, onehot, include_background, smooth, batch_dice, squared)


def dice_ce_loss(
    logits: Tensor,
    target: Tensor,
    *,
    include_background: bool = True,
    smooth: float = 1e-5,
    batch_dice: bool = False,
    squared: bool = False,
) -> Tensor:
    """Dice loss plus the mean cross-entropy over voxels; the latter always with the background.

    Parameters, result and errors are those of :func:`dice_loss`.
    """
    onehot = _onehot(logits, target)
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    dice = _dice(log_probabilities.exp(), onehot, include_background, smooth, batch_dice, squared)
    # Not nll_loss, which has no deterministic CUDA forward in 3D; where() so that -inf times 0 is no NaN.
    cross_entropy = -torch.where(onehot, log_probabilities, 0.0).sum() / target.numel()
    return dice + cross_entropy


def build_loss(config: LossConfig) -> Loss:
    """The configured loss as a function of logits and target."""
    losses = {"dice": dice_loss, "dice_ce": dice_ce_loss}
    return functools.partial(
        losses[config.loss],
        include_background=config.include_background,
        smooth=config.dice_smooth,
        batch_dice=config.batch_dice,
    )


def _dice(
    p: Tensor, onehot: Tensor, include_background: bool, smooth: float, batch_dice: bool, squared: bool
) -> Tensor:
    """The Dice loss of probabilities (batch, classes, i, j, k), float32, and a one-hot target, bool."""
    if not include_background:
        if p.shape[1] < 2:
            raise ValueError("expected at least two classes to leave the background out, got one")
        p, onehot = p[:, 1:], onehot[:, 1:]
    over = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    voxels = p[:, 0].numel() if batch_dice else p[0, 0].numel()
    true_positive = torch.where(onehot, p, 0.0).sum(over)
    truth = onehot.sum(over, dtype=torch.float32)
    claimed = p.sum(over)
    denominator = (p.square().sum(over) if squared else claimed) + truth + smooth
    absent = truth == 0
    # The denominator is at least 1 where the class is present; elsewhere a 1 keeps the unused gradient finite.
    present_score = (2 * true_positive + smooth) / torch.where(absent, 1.0, denominator)
    return 1 - torch.where(absent, 1 - claimed / voxels, present_score).mean()


def _onehot(logits: Tensor, target: Tensor) -> Tensor:
    """The target as bool (batch, classes, i, j, k), after checking shapes and types."""
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
