"""Voxels per class of sub-volumes, counted on the device: what their Dice is made of while training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ClassCounts(NamedTuple):
    """True positive, false positive and false negative voxels per class: int64 tensors of shape (classes,)."""

    tp: Tensor
    fp: Tensor
    fn: Tensor


def class_counts(prediction: Tensor, target: Tensor, classes: int) -> ClassCounts:
    """Count voxels per class on the tensors' device, without waiting for it; counts of sub-volumes may be added up.

    Parameters
    ----------
    prediction : logits or probabilities (batch, classes, i, j, k), or class indices of the target's shape.
    target : class indices (batch, i, j, k), integer.
    classes : number of classes, the background included.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    if prediction.ndim == target.ndim + 1 and prediction.shape[1] == classes:
        prediction = prediction.argmax(1)
    if prediction.shape != target.shape:
        raise ValueError(
            f"expected a prediction of shape {tuple(target.shape)}, or with {classes} classes as second axis, "
            f"got {tuple(prediction.shape)}"
        )
    found, there, both = [], [], []
    for index in range(classes):  # bincount would wait for the device to learn the largest value
        p, t = prediction == index, target == index
        found.append(p.sum())
        there.append(t.sum())
        both.append((p & t).sum())
    tp = torch.stack(both)
    return ClassCounts(tp, torch.stack(found) - tp, torch.stack(there) - tp)
