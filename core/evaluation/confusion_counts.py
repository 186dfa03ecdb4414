"""Counts true positives, false positives and false negatives per class on the device, without synchronisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.labels import IGNORE_INDEX


class ClassCounts(NamedTuple):
    """True positives, false positives and false negatives per class: int64 tensors of shape (class,)."""

    tp: Tensor
    fp: Tensor
    fn: Tensor


def class_counts(prediction: Tensor, target: Tensor, classes: int) -> ClassCounts:
    """Count voxels per class on the tensors' device. Counts of several batches may be summed.

    Voxels with the ignore label (:data:`core.labels.IGNORE_INDEX`) in the target are left out.

    Parameters
    ----------
    prediction : Tensor. Logits or probabilities (batch, class, i, j, k), or class indices of the target's shape.
    target : Tensor, integer, shape (batch, i, j, k). Class indices.
    classes : int. Number of classes, background included.

    Returns
    -------
    ClassCounts.

    Raises
    ------
    ValueError
        If the shapes do not match.
    """
    if prediction.ndim == target.ndim + 1 and prediction.shape[1] == classes:
        prediction = prediction.argmax(1)
    if prediction.shape != target.shape:
        raise ValueError(
            f"expected a prediction of shape {tuple(target.shape)}, or with {classes} classes as second axis, "
            f"got {tuple(prediction.shape)}"
        )
    prediction = torch.where(target == IGNORE_INDEX, IGNORE_INDEX, prediction)
    predicted, present, correct = [], [], []
    for index in range(classes):  # bincount would synchronise with the device
        p, t = prediction == index, target == index
        predicted.append(p.sum())
        present.append(t.sum())
        correct.append((p & t).sum())
    tp = torch.stack(correct)
    return ClassCounts(tp, torch.stack(predicted) - tp, torch.stack(present) - tp)


def region_counts(prediction: Tensor, target: Tensor, regions: Sequence[Sequence[int]]) -> ClassCounts:
    """Count voxels per region, a union of classes, as :func:`class_counts`: a voxel with another class of the same
    region is a true positive of the region.

    Parameters
    ----------
    prediction, target : Tensor, integer, same shape. Class indices.
    regions : sequence of sequence of int. Class indices of each region.
    """
    counted = target != IGNORE_INDEX
    predicted, present, correct = [], [], []
    for members in regions:
        p, t = (torch.stack([labels == index for index in members]).any(0) for labels in (prediction, target))
        p = p & counted
        predicted.append(p.sum())
        present.append(t.sum())
        correct.append((p & t).sum())
    tp = torch.stack(correct)
    return ClassCounts(tp, torch.stack(predicted) - tp, torch.stack(present) - tp)
