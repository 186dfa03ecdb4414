"""Augmentation of a whole batch at once, as few operations as it takes: what a GPU does.

The same changes as those of :mod:`core.augmentation.warp` and :mod:`core.augmentation.intensity`, which do them piece by piece as it suits the
caches of a CPU. Here every operation is one launch for all sub-volumes and channels, whatever each of them drew: who
drew nothing gets the neutral numbers. What was drawn travels from pinned memory, and nothing is waited for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from core.augmentation.intensity import BIAS_POINTS, Intensity, linear
from core.augmentation.warp import EXACT_VOXELS, Warp
from core.types import Size3, triple


def warp_batch(image: Tensor, label: Tensor, warp: Warp, size: Size3, flips: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """What :func:`core.augmentation.warp.apply_warp` does: one field of places for the batch, read by image and label alike.

    Parameters
    ----------
    image : float32 (batch, channel, I, J, K), the region, larger by the same number of voxels on both sides of an axis.
    label : uint8 (batch, I, J, K).
    warp, flips : of every sub-volume.

    Returns
    -------
    Image float32 (batch, channel, *size) and label uint8 (batch, *size).
    """
    device, region, batch = image.device, triple(image.shape[-3:]), len(image)
    mirror = torch.tensor([[-1.0, 1.0, 1.0] if flipped else [1.0, 1.0, 1.0] for flipped in flips])
    last = send(torch.tensor(region, dtype=torch.float32)[None, :, None] - 1, device)
    where = torch.baddbmm(
        last / 2, send(warp.matrix * mirror[:, None], device), _offsets(size, device).expand(batch, -1, -1)
    )
    if warp.control is not None:
        where += _bend(send(warp.control, device), send(mirror[:, 0] < 0, device), size).flatten(2)
    where = torch.minimum(where.clamp_(min=0), last, out=where)
    grid = where.mul(2 / last.clamp(min=1)).sub_(1).flip(1).transpose(1, 2)  # x, y, z are k, j, i, from -1 to 1
    moved = F.grid_sample(image, grid.view(batch, *size, 3), padding_mode="border", align_corners=True)
    i, j, k = where.round_().to(torch.float32 if label[0].numel() <= EXACT_VOXELS else torch.float64).unbind(1)
    voxels = torch.add(j, i, alpha=region[1]).mul_(region[2]).add_(k).long()
    return moved, label.flatten(1).gather(1, voxels).view(batch, *size)


def change_batch(image: Tensor, changes: Sequence[Intensity]) -> Tensor:
    """What :func:`core.augmentation.intensity.apply_intensity` does, with other noise of the same kind; the image is written to.

    Parameters
    ----------
    image : float32 (batch, channel, i, j, k), contiguous.
    changes : one for each channel of each sub-volume, channels changing fastest.
    """
    device, size = image.device, triple(image.shape[-3:])
    channels = image.flatten(0, 1)
    numbers = torch.tensor([(c.exponent, c.contrast, c.brightness, c.noise) for c in changes])
    exponent, contrast, brightness, noise = send(numbers, device).T[:, :, None, None, None]
    if any(change.tones for change in changes):
        low, high = (value[:, None, None, None] for value in channels.flatten(1).aminmax(dim=1))
        extent = (high - low).clamp_min_(1e-6)
        tissue = channels.sign().abs_()
        channels.sub_(low).div_(extent).log2_().mul_(exponent).exp2_()
        channels.mul_(extent * contrast).add_(low * contrast + brightness)
        if any(change.bias is not None for change in changes):
            neutral = torch.ones([BIAS_POINTS] * 3)
            control = torch.stack([neutral if c.bias is None else c.bias for c in changes])
            channels.mul_(_spread(send(control, device)[:, None], size)[:, 0])
        channels.mul_(tissue)
    if any(change.smoothing is not None for change in changes):
        _smooth(channels, changes)
    if any(change.noise for change in changes):
        drawn = torch.randn(
            channels.shape, generator=torch.Generator(device).manual_seed(changes[0].noise_seed), device=device
        )
        channels.add_(drawn.mul_(channels.sign().abs_()).mul_(noise))
    return image


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on the device; to a GPU from pinned memory, so that nobody waits."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _smooth(channels: Tensor, changes: Sequence[Intensity]) -> None:
    """Multiply channels (n, i, j, k) along each axis by a matrix of their own."""
    size = triple(channels.shape[1:])
    one = tuple(torch.eye(side) for side in size)
    by_axis = zip(*(one if c.smoothing is None else c.smoothing for c in changes), strict=True)
    along_i, along_j, along_k = (send(torch.stack(matrices), channels.device) for matrices in by_axis)
    along = torch.bmm(channels.flatten(1, 2), along_k.mT).view_as(channels)
    smoothed = along_j[:, None] @ along
    torch.bmm(along_i, smoothed.flatten(2), out=channels.flatten(2))


def _bend(control: Tensor, mirrored: Tensor, size: Size3) -> Tensor:
    """Displacements (batch, 3, i, j, k) between control points (batch, 3, a, b, c); those of mirrored sub-volumes, bool
    (batch,), run the other way along i."""
    rows = _lines(size[0], control.shape[2], control.device)
    return _spread(control, size, torch.where(mirrored[:, None, None], rows.flip(0), rows))


def _spread(control: Tensor, size: Size3, rows: Tensor | None = None) -> Tensor:
    """Trilinear interpolation (n, m, i, j, k) between control points (n, m, a, b, c) that span ``size``; ``rows``:
    matrices (n, i, a) instead of the usual one along i."""
    i, j, k = (_lines(n, points, control.device) for n, points in zip(size, control.shape[2:], strict=True))
    face = (j @ control @ k.T).flatten(3)
    along = i if rows is None else rows[:, None]
    return (along @ face).view(*control.shape[:2], *size)


@functools.lru_cache(32)
def _lines(new: int, old: int, device: torch.device) -> Tensor:
    return linear(new, old).to(device)


@functools.lru_cache(8)
def _offsets(size: Size3, device: torch.device) -> Tensor:
    """Offsets of all voxels from the middle, float32 (1, 3, i * j * k)."""
    lines = [torch.arange(n, device=device) - (n - 1) / 2 for n in size]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")).flatten(1)[None]
