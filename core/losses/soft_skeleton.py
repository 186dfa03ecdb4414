"""The differentiable skeleton of a probability map, by repeated opening.

    S = relu(I - open(I));   then, n times:   I = erode(I),   S = S + relu((1 - S) (I - open(I)))

where erosion is the minimum over a voxel and its six neighbours, dilation the maximum over its 26, and opening erosion,
then dilation. n is to be at least the largest radius in voxels of what has a centre line.

Pooling has no deterministic CUDA backward in 3D; here the gradient goes to the neighbour that was chosen (the first of
equal ones: the voxel itself, then i, j, k) by comparison, and what is kept for the backward pass is a byte per voxel.
Voxels beyond the border, and ignored ones, count for neither minimum nor maximum.

S. Shit et al.: clDice - a novel topology-preserving loss function for tubular structure segmentation. CVPR 2021,
arXiv:2003.07311, algorithm 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

AXES = (-3, -2, -1)

_Slice = Callable[[Tensor], Tensor]


def soft_skeleton(image: Tensor, iterations: int, counted: Tensor | None = None) -> Tensor:
    """The skeleton of each channel.

    Parameters
    ----------
    image : Tensor, float32, shape (batch, channel, i, j, k), 0 to 1.
    iterations : int. Erosions n.
    counted : Tensor, bool, shape (batch, 1, i, j, k), or None. Voxels that are not ignored; the skeleton is 0 in the
        others.
    """
    skeleton = _above_opening(image, counted)
    for _ in range(iterations):
        image = _erode(image, counted)
        found = _above_opening(image, counted)
        skeleton = skeleton + torch.relu(found - skeleton * found)
    return skeleton


def _above_opening(image: Tensor, counted: Tensor | None) -> Tensor:
    opened = _dilate(_erode(image, counted), counted)
    return torch.relu(image - opened)


def _erode(image: Tensor, counted: Tensor | None) -> Tensor:
    smallest = _Extremum.apply(_with(image, math.inf, counted), AXES, False)
    return _with(smallest, 0.0, counted)


def _dilate(image: Tensor, counted: Tensor | None) -> Tensor:
    image = _with(image, -math.inf, counted)
    for axis in AXES:
        image = _Extremum.apply(image, (axis,), True)
    return _with(image, 0.0, counted)


def _with(image: Tensor, value: float, counted: Tensor | None) -> Tensor:
    """The image with a value in ignored voxels."""
    return image if counted is None else torch.where(counted, image, value)


class _Extremum(torch.autograd.Function):
    """The minimum, or maximum, of each voxel and its neighbours along some axes."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, axes: Sequence[int], largest: bool) -> Tensor:
        choose, better = (torch.maximum, torch.gt) if largest else (torch.minimum, torch.lt)
        best, chosen = image.clone(), torch.zeros_like(image, dtype=torch.uint8)
        for number, (neighbour, voxel) in enumerate(_pairs(axes, image.shape), 1):
            here = voxel(best)
            if ctx.needs_input_grad[0]:
                number_if_better = better(neighbour(image), here).view(torch.uint8) * number
                voxel(chosen).copy_(torch.maximum(voxel(chosen), number_if_better))
            here.copy_(choose(here, neighbour(image)))
        ctx.save_for_backward(chosen)
        ctx.axes = axes
        return best

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (chosen,) = ctx.saved_tensors
        of_image = gradient * _mask(chosen, 0, gradient)
        for number, (neighbour, voxel) in enumerate(_pairs(ctx.axes, gradient.shape), 1):
            neighbour(of_image).addcmul_(_mask(voxel(chosen), number, gradient), voxel(gradient))
        return of_image, None, None


def _mask(chosen: Tensor, number: int, like: Tensor) -> Tensor:
    """1 where the number was chosen, else 0. On a CPU several times as fast as a bool mask and ``where``."""
    return torch.eq(chosen, number, out=torch.empty(chosen.shape, dtype=like.dtype, device=like.device))


def _pairs(axes: Sequence[int], shape: Sequence[int]) -> Iterator[tuple[_Slice, _Slice]]:
    """Slices of the previous, then of the next neighbour along each axis, with those of the voxels that have it."""
    for axis in axes:
        n = shape[axis] - 1
        first, last = (functools.partial(torch.narrow, dim=axis, start=start, length=n) for start in (0, 1))
        yield first, last
        yield last, first
