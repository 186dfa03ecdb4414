"""The Dice loss plus the mean cross-entropy over voxels, each with weight 1.

F. Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation. Nature
Methods 18, 2021, arXiv:1904.08128.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.losses.bce_dice import bce_dice
from core.losses.cross_entropy import cross_entropy_of
from core.losses.dice import DiceOptions, dice_of
from core.losses.labelled import Labelled


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

    Parameters, return value and errors are those of :func:`core.losses.dice.dice_loss`.
    """
    return dice_ce(Labelled.of(logits, target), DiceOptions(include_background, smooth, batch_dice, squared))


def dice_ce(labelled: Labelled, options: DiceOptions) -> Tensor:
    """The loss of a checked batch; of regions :func:`core.losses.bce_dice.bce_dice`, as in nnU-Net."""
    if labelled.overlapping:
        return bce_dice(labelled, options)
    log_probabilities = torch.log_softmax(labelled.logits, dim=1)
    dice = dice_of(log_probabilities.exp(), labelled, options)
    return dice + cross_entropy_of(log_probabilities, labelled)
