"""Resampling of feature maps to another size, also where an operator is missing or has no deterministic gradient.

Trilinear interpolation and adaptive average pooling add gradients in no fixed order on CUDA, and an Apple GPU does not
have all of them. Both are separable and linear, so that there they are computed as a product with one matrix per axis.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.types import Size3

WITHOUT_OPERATORS = ("mps",)  # devices without the gradient of the one, and without the other


def linear_resize(x: Tensor, size: Size3) -> Tensor:
    """Feature maps (batch, channel, i, j, k), trilinearly interpolated to a size; the outer faces of the corner voxels
    coincide (torch's ``align_corners=False``)."""
    if not _needs_matrices(x):
        return F.interpolate(x, size=size, mode="trilinear", align_corners=False)
    return _resize(x, size, lambda eye, n: F.interpolate(eye, size=n, mode="linear", align_corners=False))


def average_resize(x: Tensor, size: Size3) -> Tensor:
    """Feature maps (batch, channel, i, j, k), averaged over a grid of ``size`` boxes; a box holds at least a voxel, so
    that voxels are repeated where ``size`` is larger (torch's adaptive average pooling)."""
    if not _needs_matrices(x):
        return F.adaptive_avg_pool3d(x, size)
    return _resize(x, size, F.adaptive_avg_pool1d)


class LinearUpsample2(nn.Module):
    """Twice the size along each axis, by trilinear interpolation."""

    def forward(self, x: Tensor) -> Tensor:
        i, j, k = x.shape[2:]
        return linear_resize(x, (2 * i, 2 * j, 2 * k))


def _needs_matrices(x: Tensor) -> bool:
    return torch.are_deterministic_algorithms_enabled() or x.device.type in WITHOUT_OPERATORS


def _resize(x: Tensor, size: Size3, resize_line: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Multiply each axis with the matrix (old, new) that ``resize_line`` makes of unit vectors (1, old, old)."""
    matrices = []
    for old, new in zip(x.shape[2:], size, strict=True):
        units = torch.eye(old, device="cpu" if x.device.type in WITHOUT_OPERATORS else x.device)
        matrices.append(resize_line(units[None], new)[0].to(x))
    return torch.einsum("bcijk,ix,jy,kz->bcxyz", x, *matrices)
