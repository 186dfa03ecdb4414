"""Segments a whole volume: joins overlapping sub-volumes with Gaussian weights, or takes the volume in one pass.

The tiling is the field's usual one (as in nnU-Net and MONAI's sliding window): tiles at a fixed stride, the last one
moved inside the volume, logits averaged with a Gaussian of 1/8 of the tile size. Sums are float32.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIGMA_SHARE = 0.125  # of the tile size
LEAST_WEIGHT = 1e-3
HEAD_MARGIN = 4  # voxels of air kept around the head
AIR_LOGIT = 20.0  # of the background, where nothing was predicted

Predictor = Callable[[Tensor], Tensor]


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast for "bf16", nothing for "fp32"."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn "auto" into "bf16" where the device computes in it natively, else "fp32"."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _has_bf16_instructions() else "fp32"


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First voxels of the tiles along one axis; the last tile ends at the volume's edge."""
    if tile >= length:
        return [0]
    stride = max(1, int(tile * (1 - overlap)))
    count = math.ceil((length - tile) / stride) + 1
    return [min(n * stride, length - tile) for n in range(count)]


def gaussian_weights(tile: tuple[int, int, int], device: torch.device) -> Tensor:
    """Blending weights, float32, shape of the tile: highest in the middle, never below 0.001."""
    axes = []
    for n in tile:
        x = torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2
        axes.append(torch.exp(-(x**2) / (2 * (SIGMA_SHARE * n) ** 2)))
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    return weights.clamp_min(max(float(weights.min()), LEAST_WEIGHT))


@torch.no_grad()
def join_tiles(
    image: Tensor,
    predictor: Predictor,
    tile: tuple[int, int, int],
    overlap: float = 0.5,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Predict a volume by overlapping tiles.

    Parameters
    ----------
    image : float32 (channel, i, j, k); padded with zeros, evenly on both sides, where it is smaller than the tile.
    predictor : maps (batch, channel, *tile) to logits (batch, class, *tile).
    tile : size of a tile in voxels.
    overlap : share of a tile that the next one covers again, 0 to below 1.
    batch_size : tiles predicted at once.
    progress : called with (tiles done, tiles in all).

    Returns
    -------
    Logits, float32 (class, i, j, k).
    """
    shape = image.shape[-3:]
    missing = [max(t - n, 0) for t, n in zip(tile, shape, strict=True)]
    before = [m // 2 for m in missing]
    if any(missing):
        image = F.pad(image, [v for b, m in zip(before[::-1], missing[::-1], strict=True) for v in (b, m - b)])
    starts = [tile_starts(n, t, overlap) for n, t in zip(image.shape[-3:], tile, strict=True)]
    corners = [(i, j, k) for i in starts[0] for j in starts[1] for k in starts[2]]
    weights = gaussian_weights(tile, image.device)
    total = torch.zeros(image.shape[-3:], device=image.device)
    joined: Tensor | None = None
    for first in range(0, len(corners), batch_size):
        boxes = [
            tuple(slice(c, c + t) for c, t in zip(at, tile, strict=True)) for at in corners[first : first + batch_size]
        ]
        logits = predictor(torch.stack([image[(slice(None), *box)] for box in boxes])).float()
        if joined is None:
            joined = torch.zeros((logits.shape[1], *image.shape[-3:]), device=image.device)
        for one, box in zip(logits, boxes, strict=True):
            joined[(slice(None), *box)] += one * weights
            total[box] += weights
        if progress is not None:
            progress(min(first + batch_size, len(corners)), len(corners))
    assert joined is not None
    joined /= total
    return joined[(slice(None), *(slice(b, b + n) for b, n in zip(before, shape, strict=True)))]


def head_box(image: Tensor, margin: int = HEAD_MARGIN) -> tuple[slice, slice, slice]:
    """The box around all voxels of (channel, i, j, k) that are not 0 in every channel, and a margin: the head, in
    skull-stripped data. All of the volume where there is no such voxel. Waits for the device."""
    there = (image != 0).any(dim=0)
    if not bool(there.any()):
        return slice(0, image.shape[1]), slice(0, image.shape[2]), slice(0, image.shape[3])
    box = []
    for axis, length in enumerate(there.shape):
        others = tuple(a for a in range(3) if a != axis)
        where = there.any(dim=others[1]).any(dim=others[0]).nonzero().flatten()
        box.append(slice(max(int(where[0]) - margin, 0), min(int(where[-1]) + 1 + margin, length)))
    return box[0], box[1], box[2]


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    image: Tensor,
    *,
    mode: str,
    tile: tuple[int, int, int],
    overlap: float,
    precision: str,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Logits, float32 (class, i, j, k), for one image (channel, i, j, k) on the model's device.

    Only the head (:func:`head_box`) is predicted, the air around it is background: sub-volumes of air alone are no use
    and, under instance norm, unlike anything that training showed. ``mode`` is "tiles" or "whole" (one pass over the
    head); any other raises a ``ValueError``. The model is put into evaluation mode
    and left in the mode it was in.
    """
    if mode not in ("tiles", "whole"):
        raise ValueError(f"mode: expected tiles or whole, got {mode!r}")
    was_training = model.training
    model.eval()
    head = head_box(image)
    inside = image[(slice(None), *head)]
    try:
        with autocast(image.device, precision):
            if mode == "whole":
                logits = model(inside[None])[0].float()
                if progress is not None:
                    progress(1, 1)
            else:
                logits = join_tiles(inside, model, tile, overlap, progress=progress)
    finally:
        model.train(was_training)
    if inside.shape == image.shape:
        return logits
    whole = torch.zeros((logits.shape[0], *image.shape[-3:]), device=image.device)
    whole[0] = AIR_LOGIT
    whole[(slice(None), *head)] = logits
    return whole


def _has_bf16_instructions() -> bool:
    """Whether this CPU multiplies bf16 natively; emulation is slower than fp32."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
