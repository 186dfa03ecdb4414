"""The Dice loss plus the boundary loss: errors weigh as much as they are far from the boundary of the reference.

With probabilities p = softmax(logits), the one-hot target t, and the signed distance phi_c of a voxel from the boundary
of class c in the target (negative inside, 0 on its outermost voxels, positive outside), over the N voxels of the batch
and its C foreground classes,

    L = Dice(p, t) + a / (N C) sum_c,v (p_c - t_c) phi_c

The paper drops the term t phi, which does not depend on the network; with it the loss is 0 for a perfect prediction and
never negative, with the same gradient. The weight a is constant, which the paper compares with schedules over the
epochs (section 3 of the journal version): a run that is resumed, or fitted to a time budget, needs no other state.

The distance maps are exact (:mod:`core.losses.distance_maps`), computed for each sub-volume as it was drawn and
augmented, so that they are those of the sub-volume, not of the whole volume. Distances account for the voxel size, the
median one of the training subjects, and are in units of the cube root of its volume: voxels where they are isotropic,
as in the authors' code. A class whose boundary is not in the sub-volume (the class is absent, or fills it) has no
distance and no boundary loss, as there; the Dice loss penalises its errors. Ignored voxels are neither inside nor
outside.

H. Kervadec et al.: Boundary loss for highly unbalanced segmentation. MIDL 2019, arXiv:1812.07032; Medical Image
Analysis 67, 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core.losses.dice import DiceOptions, dice_of
from core.losses.distance_maps import distance_to, inner_boundary
from core.losses.labelled import Labelled
from core.types import SpacingMm


def boundary(labelled: Labelled, options: DiceOptions, weight: float, spacing_mm: SpacingMm) -> Tensor:
    """The loss of a checked batch.

    Parameters
    ----------
    weight : float. Weight a.
    spacing_mm : tuple of float. Voxel size of the image along i, j, k.
    """
    p = labelled.probabilities
    return dice_of(p, labelled, options) + weight * boundary_of(p, labelled, spacing_mm)


def boundary_of(p: Tensor, labelled: Labelled, spacing_mm: SpacingMm) -> Tensor:
    """The boundary loss alone, of probabilities (batch, class, i, j, k), float32."""
    distance = signed_distances(labelled, spacing_mm)
    classes = max(distance.shape[1], 1)
    error = labelled.foreground(p - labelled.onehot.float())
    return labelled.without_ignored(error * distance).sum() / (labelled.voxels * classes)


@torch.no_grad()
def signed_distances(labelled: Labelled, spacing_mm: SpacingMm) -> Tensor:
    """Signed distance from the boundary of each foreground class, float32, shape (batch, class - 1, i, j, k), in units
    of the cube root of an image voxel's volume; 0 everywhere for a class without a boundary."""
    scale = labelled.step / math.prod(spacing_mm) ** (1 / 3)
    i, j, k = (mm * scale for mm in spacing_mm)
    inside = labelled.foreground(labelled.onehot)
    outside = ~inside if labelled.counted is None else ~inside & labelled.counted
    distance = distance_to(inner_boundary(inside, outside), (i, j, k))
    distance = torch.where(distance.isfinite(), distance, 0.0)
    return torch.where(inside, -distance, distance)
