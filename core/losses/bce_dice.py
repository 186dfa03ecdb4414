"""Binary cross-entropy plus Dice, each class against the rest.

With the sigmoid p of each class's logit x and the one-hot target t, over the voxels of the batch and its C classes,

    L = - 1 / (N C) sum_c,v [t log p + (1 - t) log(1 - p)] + Dice(p, t)

BCEDiceLoss of A. Wolny et al.: Accurate and versatile 3D segmentation of plant tissues at cellular resolution. eLife
2020 (pytorch-3dunet), also MedicalZooPytorch's, and nnU-Net's for regions. Labels exclude each other here (regions may
overlap), and predictions take the largest logit as with every loss; but each probability is the sigmoid of its own
logit, so that the softmax of the logits, which confidences are made of, is calibrated less well than with the other
losses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.losses.cross_entropy import binary_cross_entropy
from core.losses.dice import DiceOptions, dice_of
from core.losses.labelled import Labelled


def bce_dice(labelled: Labelled, options: DiceOptions) -> Tensor:
    """The loss of a checked batch; the binary cross-entropy always includes the background."""
    return binary_cross_entropy(labelled) + dice_of(torch.sigmoid(labelled.logits), labelled, options)
