"""Exact Euclidean distances to a mask, on the device of the mask.

Separable, after P. F. Felzenszwalb, D. P. Huttenlocher: Distance transforms of sampled functions. Theory of Computing
8, 2012: along the first axis a forward and a backward scan, along each other axis the minimum over all positions of the
squared distance so far plus the squared distance along the axis. The minimum is taken directly instead of by its lower
envelope: n passes over the volume along an axis of n voxels, all of them elementwise, deterministic and without a
synchronisation with the device.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from core.types import SpacingMm


@torch.no_grad()
def distance_to(mask: Tensor, spacing: SpacingMm) -> Tensor:
    """Distance of each voxel to the nearest voxel of a mask.

    Parameters
    ----------
    mask : Tensor, bool, shape (..., i, j, k).
    spacing : tuple of float. Voxel size along i, j, k.

    Returns
    -------
    Tensor, float32, shape of the mask, in the unit of the spacing. 0 in the mask; infinite where the mask is empty.
    """
    longest, *others = sorted((-3, -2, -1), key=lambda axis: -mask.shape[axis])
    squared = _scanned(torch.where(mask, 0.0, math.inf), longest, spacing[longest]).square_()
    for axis in others:
        squared = _minimum_along(squared, axis, spacing[axis])
    return squared.sqrt_()


def inner_boundary(mask: Tensor, outside: Tensor) -> Tensor:
    """Voxels of a mask with a face in common with a voxel outside of it; the border of the array is no boundary.

    Parameters
    ----------
    mask, outside : Tensor, bool, shape (..., i, j, k). Voxels that are in neither are neither.
    """
    touched = torch.zeros_like(mask)
    for axis in (-3, -2, -1):
        n = mask.shape[axis] - 1
        touched.narrow(axis, 0, n).logical_or_(outside.narrow(axis, 1, n))
        touched.narrow(axis, 1, n).logical_or_(outside.narrow(axis, 0, n))
    return mask & touched


def _scanned(distance: Tensor, axis: int, spacing: float) -> Tensor:
    """Distances along one axis, in place, from 0 in a mask and infinity elsewhere."""
    slices = distance.unbind(axis)
    for ordered in (slices, slices[::-1]):
        for before, here in itertools.pairwise(ordered):
            here.copy_(torch.minimum(here, before + spacing))
    return distance


def _minimum_along(squared: Tensor, axis: int, spacing: float) -> Tensor:
    """For each position along an axis, the minimum over all positions of the value there plus the squared distance."""
    n = squared.shape[axis]
    shape = [n if a == axis else 1 for a in (-3, -2, -1)]
    position = torch.arange(n, device=squared.device, dtype=squared.dtype).view(shape)
    rows = [(squared + ((position - here) * spacing).square_()).amin(axis) for here in range(n)]
    return torch.stack(rows, dim=axis)
