"""The generalised Dice loss: one overlap of all classes, weighted by the inverse square of their volumes.

With probabilities p = softmax(logits), the one-hot target t, sums over the voxels of a sub-volume (or of the batch),
and the smoothing s,

    L = 1 - (2 sum_c w_c sum p_c t_c + s) / (sum_c w_c (sum p_c + sum t_c) + s),    w_c = (n / sum t_c)^2

where n is the volume of the smallest class that is present: the weights of the paper, 1 / (sum t_c)^2, times a common
factor, which cancels but for the smoothing. A class that the target does not contain, whose weight the paper leaves
infinite, has the largest one, 1. Where no class is present (none is but the background, and that is left out), the loss
is the mean probability of the classes.

C. H. Sudre, W. Li, T. Vercauteren, S. Ourselin, M. J. Cardoso: Generalised Dice overlap as a deep learning loss
function for highly unbalanced segmentations. DLMIA 2017, arXiv:1707.03237.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core.losses.class_sums import ClassSums
from core.losses.dice import DiceOptions
from core.losses.labelled import Labelled


def generalised_dice(labelled: Labelled, options: DiceOptions) -> Tensor:
    """The loss of a checked batch, 0 to 1."""
    p = labelled.probabilities
    sums = ClassSums.of(p, labelled, options.include_background, options.batch_dice)
    smallest = torch.where(sums.absent, math.inf, sums.truth).amin(-1, keepdim=True)
    absent = smallest.isinf()
    smallest = torch.where(absent, 1.0, smallest)
    weight = (smallest / torch.maximum(sums.truth, smallest)).square()
    numerator = 2 * (weight * sums.true_positive).sum(-1, keepdim=True) + options.smooth
    denominator = (weight * (sums.predicted + sums.truth)).sum(-1, keepdim=True) + options.smooth
    present_score = numerator / torch.where(absent, 1.0, denominator)
    score = torch.where(absent, 1 - sums.mean_probability.mean(-1, keepdim=True), present_score)
    return sums.mean_over_sub_volumes(score)
