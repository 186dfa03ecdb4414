"""Cross-entropy, plain and with a weight per class.

With p = softmax(logits), the class t(v) of voxel v, and a weight w per class (1 for plain cross-entropy),

    L = - sum_v w_t(v) log p_t(v)(v) / sum_v w_t(v)

over the voxels of the batch that are not ignored, as ``torch.nn.CrossEntropyLoss`` defines it. Regions, which may
overlap, have the binary cross-entropy instead, with p = sigmoid(logits), averaged over voxels and regions. The weights
come from the training data (:mod:`core.losses.class_weights`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from core.losses.labelled import Labelled


def cross_entropy(labelled: Labelled) -> Tensor:
    """The mean cross-entropy over the voxels of the batch; of regions the binary one."""
    if labelled.overlapping:
        return binary_cross_entropy(labelled)
    return cross_entropy_of(torch.log_softmax(labelled.logits, dim=1), labelled)


def cross_entropy_of(log_probabilities: Tensor, labelled: Labelled) -> Tensor:
    """The mean cross-entropy of log-probabilities (batch, class, i, j, k), float32."""
    return -labelled.log_likelihood(log_probabilities).sum() / labelled.voxels


def binary_cross_entropy(labelled: Labelled) -> Tensor:
    """The mean binary cross-entropy over the voxels of the batch and its channels, each against the rest."""
    x = labelled.logits
    by_voxel = F.softplus(torch.where(labelled.onehot, -x, x))  # -log p, or -log(1 - p)
    return labelled.without_ignored(by_voxel).sum() / (labelled.voxels * x.shape[1])


def weighted_cross_entropy(labelled: Labelled, weights: Sequence[float]) -> Tensor:
    """The weighted mean cross-entropy over the voxels of the batch; 0 where no voxel belongs to a class.

    Parameters
    ----------
    weights : sequence of float, positive. One per class; none for equal weights.

    Raises
    ------
    ValueError
        If there is another number of weights than of classes.
    """
    classes = labelled.logits.shape[1]
    weights = weights or [1.0] * classes
    if len(weights) != classes:
        raise ValueError(f"expected {classes} class weights, got {len(weights)}")
    axes = (0, 2, 3, 4)
    by_class = labelled.log_likelihood(torch.log_softmax(labelled.logits, dim=1)).sum(axes)
    voxels = labelled.onehot.sum(axes, dtype=torch.float32)
    # Numbers of the host enter as arguments of operations; as a tensor they would have to be copied to the device.
    total = torch.stack([value * weight for value, weight in zip(by_class, weights, strict=True)]).sum()
    weight_sum = torch.stack([value * weight for value, weight in zip(voxels, weights, strict=True)]).sum()
    return -total / torch.where(weight_sum > 0, weight_sum, 1.0)
