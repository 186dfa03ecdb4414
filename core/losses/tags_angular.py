"""The squared angle between each voxel's logits and the direction of its class.

With the logits u of a voxel of class t as a vector, and its components u_t and u_r (all others), over the N voxels of
the batch,

    L = 1 / N sum theta^2,    theta = atan2(sqrt(|u_r|^2 + d^2), u_t)

which is the angle between u and the one-hot vector of t; d = 1e-3 bounds the gradient, as the angle of a vector of
length 0 is undefined. The loss does not depend on the length of u: training with it determines which class is the
largest, but no confidence. An angle below 45 degrees is a correct prediction.

The angle is that of M. Bai, R. Urtasun: Deep watershed transform for instance segmentation. CVPR 2017,
arXiv:1611.08303, equation 1, there of directions in space that point away from an instance's border. pytorch-3dunet
made TagsAngularLoss of it, for a network with several outputs, each with a coefficient, and MedicalZooPytorch compares
logits with labels by it. What differs here from the latter: its division by the length of a vector broadcasts over the
wrong axes and fails for most shapes, it takes no gradient of the length, so that logits grow without need, it has a
rest of (2e-3)^2 per voxel at a perfect prediction (a cosine below 1, against NaN of acos), and it sums over voxels, so
that the learning rate depends on the size of a sub-volume. Its coefficients for several outputs are the weights of deep
supervision here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.losses.labelled import Labelled

SHORTEST = 1e-3


def tags_angular(labelled: Labelled) -> Tensor:
    """The mean squared angle over the voxels of the batch, 0 (perfect) to pi^2. A voxel of no class is left out."""
    u, onehot = labelled.logits, labelled.onehot
    along = torch.where(onehot, u, 0.0).sum(1)
    across = torch.sqrt(torch.where(onehot, 0.0, u).square().sum(1) + SHORTEST**2)
    angle = torch.where(onehot.any(1), torch.atan2(across, along), 0.0)
    return angle.square().sum() / labelled.voxels
