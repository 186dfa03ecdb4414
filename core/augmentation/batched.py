"""Augmentation of a whole batch with as few kernel launches as possible, for a GPU.

The changes equal those of :mod:`core.augmentation.warp` and :mod:`core.augmentation.intensity`, which work in chunks
that suit the caches of a CPU. Here every operation is one launch for all sub-volumes and channels; those without a
change get neutral parameters. Parameters are copied from pinned memory, without synchronisation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from core.augmentation.intensity import BIAS_POINTS, IntensityChange, linear_matrix
from core.augmentation.warp import EXACT_VOXELS, Warp
from core.types import Size3, triple


def apply_warp_batched(
    image: Tensor, label: Tensor, warp: Warp, size: Size3, flips: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    """Resample a batch of regions as :func:`core.augmentation.warp.apply_warp`, with one sampling grid for all.

    Parameters
    ----------
    image : Tensor, float32, shape (batch, channel, I, J, K). Regions, larger by the same number of voxels on both sides
        of an axis than the sub-volumes.
    label : Tensor, uint8, shape (batch, I, J, K).
    warp : Warp
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    flips : sequence of bool. Which sub-volumes are mirrored left-right.

    Returns
    -------
    image : Tensor, float32, shape (batch, channel, i, j, k)
    label : Tensor, uint8, shape (batch, i, j, k)
    """
    device, region, batch = image.device, triple(image.shape[-3:]), len(image)
    mirror = torch.tensor([[-1.0, 1.0, 1.0] if flipped else [1.0, 1.0, 1.0] for flipped in flips])
    last = to_device(torch.tensor(region, dtype=torch.float32)[None, :, None] - 1, device)
    matrix = to_device(warp.matrix * mirror[:, None], device)
    coordinates = torch.baddbmm(last / 2, matrix, _centred_offsets(size, device).expand(batch, -1, -1))
    if warp.control is not None:
        control, flipped = to_device(warp.control, device), to_device(mirror[:, 0] < 0, device)
        coordinates += _displacements(control, flipped, size).flatten(2)
    coordinates = torch.minimum(coordinates.clamp_(min=0), last, out=coordinates)
    grid = coordinates.mul(2 / last.clamp(min=1)).sub_(1).flip(1).transpose(1, 2)  # x, y, z are k, j, i, from -1 to 1
    warped = F.grid_sample(image, grid.view(batch, *size, 3), padding_mode="border", align_corners=True)
    # Not float64, which not all GPUs have.
    i, j, k = coordinates.round_().to(torch.float32 if label[0].numel() <= EXACT_VOXELS else torch.int64).unbind(1)
    indices = torch.add(j, i, alpha=region[1]).mul_(region[2]).add_(k).long()
    return warped, label.flatten(1).gather(1, indices).view(batch, *size)


def apply_intensity_batched(image: Tensor, changes: Sequence[IntensityChange]) -> Tensor:
    """Change an image in place as :func:`core.augmentation.intensity.apply_intensity`, and return it.

    The noise has the same distribution, but other values.

    Parameters
    ----------
    image : Tensor, float32, shape (batch, channel, i, j, k). Contiguous.
    changes : sequence of IntensityChange. One per sub-volume and channel, channels changing fastest.
    """
    device, size = image.device, triple(image.shape[-3:])
    channels = image.flatten(0, 1)
    scalars = torch.tensor([(c.gamma, c.contrast, c.brightness, c.noise_std) for c in changes])
    gamma, contrast, brightness, noise_std = to_device(scalars, device).T[:, :, None, None, None]
    if any(change.is_voxelwise for change in changes):
        low, high = (value[:, None, None, None] for value in channels.flatten(1).aminmax(dim=1))
        extent = (high - low).clamp_min_(1e-6)
        nonzero = channels.sign().abs_()
        channels.sub_(low).div_(extent).log2_().mul_(gamma).exp2_()
        channels.mul_(extent * contrast).add_(low * contrast + brightness)
        if any(change.bias_field is not None for change in changes):
            neutral = torch.ones([BIAS_POINTS] * 3)
            control = torch.stack([neutral if c.bias_field is None else c.bias_field for c in changes])
            channels.mul_(_interpolate(to_device(control, device)[:, None], size)[:, 0])
        channels.mul_(nonzero)
    if any(change.smoothing is not None for change in changes):
        _smooth(channels, changes)
    if any(change.noise_std for change in changes):
        generator = torch.Generator(device).manual_seed(changes[0].noise_seed)
        noise = torch.randn(channels.shape, generator=generator, device=device)
        channels.add_(noise.mul_(channels.sign().abs_()).mul_(noise_std))
    return image


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to the device; to a GPU asynchronously from pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _smooth(channels: Tensor, changes: Sequence[IntensityChange]) -> None:
    """Multiply channels (n, i, j, k) along each axis by matrices of their own, in place."""
    size = triple(channels.shape[1:])
    identity = tuple(torch.eye(side) for side in size)
    by_axis = zip(*(identity if c.smoothing is None else c.smoothing for c in changes), strict=True)
    along_i, along_j, along_k = (to_device(torch.stack(matrices), channels.device) for matrices in by_axis)
    along = torch.bmm(channels.flatten(1, 2), along_k.mT).view_as(channels)
    smoothed = along_j[:, None] @ along
    torch.bmm(along_i, smoothed.flatten(2), out=channels.flatten(2))


def _displacements(control: Tensor, flipped: Tensor, size: Size3) -> Tensor:
    """Displacements (batch, 3, i, j, k) between control points (batch, 3, a, b, c); those of mirrored sub-volumes, bool
    (batch,), are reversed along i."""
    rows = _linear_matrix_on(control.device, size[0], control.shape[2])
    return _interpolate(control, size, torch.where(flipped[:, None, None], rows.flip(0), rows))


def _interpolate(control: Tensor, size: Size3, rows: Tensor | None = None) -> Tensor:
    """Trilinear interpolation (n, m, i, j, k) between control points (n, m, a, b, c) that span ``size``; ``rows``
    replaces the interpolation along i by matrices (n, i, a)."""
    i, j, k = (_linear_matrix_on(control.device, n, points) for n, points in zip(size, control.shape[2:], strict=True))
    face = (j @ control @ k.T).flatten(3)
    along = i if rows is None else rows[:, None]
    return (along @ face).view(*control.shape[:2], *size)


@functools.lru_cache(32)
def _linear_matrix_on(device: torch.device, new: int, old: int) -> Tensor:
    return linear_matrix(new, old).to(device)


@functools.lru_cache(8)
def _centred_offsets(size: Size3, device: torch.device) -> Tensor:
    """Offsets of all voxels from the centre, float32 (1, 3, i * j * k)."""
    lines = [torch.arange(n, device=device) - (n - 1) / 2 for n in size]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")).flatten(1)[None]
