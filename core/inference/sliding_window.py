"""Segments a whole volume: joins overlapping sub-volumes with Gaussian weights, or takes the volume in one pass.

The tiling is the field's usual one (as in nnU-Net and MONAI's sliding window): tiles at a fixed stride, the last one
moved inside the volume, logits averaged with a Gaussian of 1/8 of the tile size. Sums are float32. A volume that is too
large for one pass is joined from the largest tiles that the memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.compute.device import free_bytes
from core.compute.precision import autocast
from core.models.blocks import SegmentationNetwork
from core.models.memory import inference_bytes
from core.types import Size3, triple

SIGMA_SHARE = 0.125  # of the tile size
LEAST_WEIGHT = 1e-3
HEAD_MARGIN = 4  # voxels of air kept around the head
AIR_LOGIT = 20.0  # of the background, where nothing was predicted
FREE_SHARE = 0.8  # of the free memory that one pass may take by its estimate, which may be too low by a fifth
BATCH_VOXELS = {"cpu": 0, "cuda": 2 * 96**3}  # tiles up to so many voxels go through the network together
LEFT_RIGHT = 2  # the axis that is mirrored, of (batch, channel, i, j, k)

Network = Callable[[Tensor], Tensor]


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First voxels of the tiles along one axis; the last tile ends at the volume's edge."""
    if tile >= length:
        return [0]
    stride = max(1, int(tile * (1 - overlap)))
    count = math.ceil((length - tile) / stride) + 1
    return [min(n * stride, length - tile) for n in range(count)]


def tiles_at_once(tile: Size3, device: torch.device) -> int:
    """Tiles that should go through the network together: several small ones on a GPU, which one would not fill."""
    return max(1, BATCH_VOXELS.get(device.type, 0) // math.prod(tile))


def gaussian_weights(tile: Size3, device: torch.device) -> Tensor:
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
    predictor: Network,
    tile: Size3,
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
    image, inner = _pad_with_zeros(image, tile)
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
    return joined[inner]


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
    tile: Size3,
    overlap: float,
    precision: str,
    mirror: bool = False,
    memory_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Logits, float32 (class, i, j, k), for one image (channel, i, j, k) on the model's device.

    Only the head (:func:`head_box`) is predicted, the air around it is background: sub-volumes of air alone are no use
    and, under instance norm, unlike anything that training showed. For the same reason a head smaller than a
    sub-volume of training is surrounded with zeros up to that size, as training did. The model is put into evaluation
    mode and left in the mode it was in.

    Parameters
    ----------
    mode : "tiles", or "whole": one pass over the head; where that does not fit into the memory, the largest tiles that
        do are joined.
    tile : the sub-volume of training, in voxels.
    overlap : share of a tile that the next one covers again, 0 to below 1.
    precision : "fp32" or "bf16".
    mirror : predict the mirror image (left and right) too; the mean of both logits is taken, as nnU-Net does.
    memory_bytes : that a pass may take on the device, by the estimate of :mod:`core.models.memory`; ``None``: most of
        what is free. It decides the size of tiles in the mode "whole", and whether image and mirror image, or several
        tiles, go through the network together; a sub-volume of training is always tried.
    progress : called with (passes done, passes in all).

    Raises
    ------
    ValueError
        If there is no such mode.
    """
    if mode not in ("tiles", "whole"):
        raise ValueError(f"mode: expected tiles or whole, got {mode!r}")
    was_training = model.training
    model.eval()
    head = head_box(image)
    inside = image[(slice(None), *head)]
    room = _Room(model, image, precision, memory_bytes)
    try:
        with autocast(image.device, precision):
            if mode == "whole":
                padded, inner = _pad_with_zeros(inside, tile)
                tile = room.largest_tile(triple(padded.shape[-3:]), tile)
            if mode == "whole" and tile == triple(padded.shape[-3:]):
                predictor = _predictor(model, precision, mirror, mirror and room.holds(tile, 2))
                logits = predictor(padded[None])[0].float()[inner]
                if progress is not None:
                    progress(1, 1)
            else:
                batch = room.batch(tile, 2 if mirror else 1)
                predictor = _predictor(model, precision, mirror, mirror and room.holds(tile, 2 * batch))
                logits = join_tiles(inside, predictor, tile, overlap, batch, progress)
    finally:
        model.train(was_training)
    if inside.shape == image.shape:
        return logits
    whole = torch.zeros((logits.shape[0], *image.shape[-3:]), device=image.device)
    whole[0] = AIR_LOGIT
    whole[(slice(None), *head)] = logits
    return whole


class _Room:
    """The memory that a pass may take, and what fits into it; anything fits for a network of unknown cost."""

    def __init__(self, model: nn.Module, image: Tensor, precision: str, limit_bytes: int | None) -> None:
        self.network = model if isinstance(model, SegmentationNetwork) else None
        self.device, self.precision = image.device, precision
        if self.network is None:
            return
        limit = FREE_SHARE * free_bytes(image.device) if limit_bytes is None else limit_bytes
        sums = 4 * (self.network.classes + 1) * image[0].numel()  # logits of the volume, and the weights of tiles
        self.bytes = limit - sums

    def holds(self, size: Size3, batch: int) -> bool:
        """Whether a pass over so many boxes of a size fits."""
        if self.network is None:
            return True
        needed = inference_bytes(
            self.network.config, in_channels=self.network.in_channels, classes=self.network.classes, size=size,
            batch=batch, precision=self.precision, device=self.device.type,
        )  # fmt: skip
        return needed <= self.bytes

    def largest_tile(self, size: Size3, least: Size3) -> Size3:
        """The size itself if it fits; else its sides, the longest first, are shortened to multiples of the network's
        divisor until it does, or until none is longer than ``least``."""
        sides = list(size)
        while self.network is not None and not self.holds(triple(sides), 1):
            longer = [axis for axis in range(3) if sides[axis] > least[axis]]
            if not longer:
                break
            axis = max(longer, key=lambda a: sides[a])
            divisor = self.network.divisor[axis]
            sides[axis] = max(least[axis], (sides[axis] - 1) // divisor * divisor)
        return triple(sides)

    def batch(self, tile: Size3, images: int) -> int:
        """Tiles that go through the network at once, if the memory holds them."""
        batch = max(1, tiles_at_once(tile, self.device) // images)
        while batch > 1 and not self.holds(tile, images * batch):
            batch -= 1
        return batch


def _predictor(model: nn.Module, precision: str, mirror: bool, together: bool) -> Network:
    """The network as a function of images; with ``mirror`` the mean of its logits for them and their mirror images,
    which go through it in one batch if there is memory for it (``together``).

    On a CPU bf16 convolutions are faster where the channels of a voxel lie side by side, and all layers but instance
    norm keep that order: 16-32-64-128 channels took 0.6 to 0.7 of the time with batch and group norm.
    """

    def predict(images: Tensor) -> Tensor:
        network = model if isinstance(model, SegmentationNetwork) else None
        if network is None or images.device.type != "cpu" or precision != "bf16" or network.config.norm == "instance":
            return model(images)
        padded, crop = network.pad(images)  # by itself it would bring them back to the usual order
        return crop(model(padded.contiguous(memory_format=torch.channels_last_3d))).contiguous()

    def predict_both(images: Tensor) -> Tensor:
        mirrored = images.flip(LEFT_RIGHT)
        if together:
            logits, other = predict(torch.cat((images, mirrored))).float().chunk(2)
        else:
            logits, other = predict(images).float(), predict(mirrored).float()
        return (logits + other.flip(LEFT_RIGHT)) / 2

    return predict_both if mirror else predict


def _pad_with_zeros(image: Tensor, least: Size3) -> tuple[Tensor, tuple[slice, ...]]:
    """An image (channel, i, j, k) that is at least of that size: zeros, evenly on both sides; and where the image lies
    in it."""
    shape = image.shape[-3:]
    missing = [max(t - n, 0) for t, n in zip(least, shape, strict=True)]
    before = [m // 2 for m in missing]
    if any(missing):
        image = F.pad(image, [v for b, m in zip(before[::-1], missing[::-1], strict=True) for v in (b, m - b)])
    return image, (slice(None), *(slice(b, b + n) for b, n in zip(before, shape, strict=True)))
