"""The focal loss: cross-entropy that counts voxels less which are classified well already.

With the probability p_t that softmax(logits) gives the class of a voxel, over the N voxels of the batch,

    L = - 1 / N sum (1 - p_t)^gamma log p_t

and gamma = 0 gives the cross-entropy. Of regions, which may overlap, p_t is the sigmoid of the region's logit inside it
and 1 minus that outside, as in the paper, averaged over voxels and regions. The weight alpha per class of the paper is
left out: with Dice (``dice_focal``) classes are balanced already.

T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollar: Focal loss for dense object detection. ICCV 2017, arXiv:1708.02002,
equation 4, for softmax instead of sigmoid. W. Zhu et al.: AnatomyNet: Deep learning for fast and fully automated
whole-volume segmentation of head and neck anatomy. Medical Physics 46, 2019, arXiv:1808.05238, adds Dice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from core.losses.dice import DiceOptions, dice_of
from core.losses.labelled import Labelled

SMALLEST = 1e-7  # of 1 - p_t: below 1, a power has no finite derivative at 0


def focal(labelled: Labelled, gamma: float) -> Tensor:
    """The focal loss of a checked batch.

    Parameters
    ----------
    gamma : float, 0 or more. Exponent.
    """
    if labelled.overlapping:
        return binary_focal(labelled, gamma)
    return focal_of(torch.log_softmax(labelled.logits, dim=1), labelled, gamma)


def focal_of(log_probabilities: Tensor, labelled: Labelled, gamma: float) -> Tensor:
    """The focal loss of log-probabilities (batch, class, i, j, k), float32."""
    log_p = labelled.log_likelihood(log_probabilities).sum(1)
    return -((-torch.expm1(log_p)).clamp_min(SMALLEST).pow(gamma) * log_p).sum() / labelled.voxels


def binary_focal(labelled: Labelled, gamma: float) -> Tensor:
    """The focal loss of each region against the rest, mean over voxels and regions."""
    x = labelled.logits
    log_p = -F.softplus(torch.where(labelled.onehot, -x, x))  # of what the voxel is: inside or outside
    by_voxel = -((-torch.expm1(log_p)).clamp_min(SMALLEST).pow(gamma) * log_p)
    return labelled.without_ignored(by_voxel).sum() / (labelled.voxels * x.shape[1])


def dice_focal(labelled: Labelled, options: DiceOptions, gamma: float) -> Tensor:
    """The Dice loss plus the focal loss, each with weight 1."""
    if labelled.overlapping:
        return dice_of(labelled.probabilities, labelled, options) + binary_focal(labelled, gamma)
    log_probabilities = torch.log_softmax(labelled.logits, dim=1)
    return dice_of(log_probabilities.exp(), labelled, options) + focal_of(log_probabilities, labelled, gamma)
