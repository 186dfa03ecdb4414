"""Whole-volume inference: sliding-window tiles blended with Gaussian weights, or one pass over the foreground.

The tiling is that of nnU-Net and of MONAI's ``sliding_window_inference``: a fixed stride, the last tile moved inside
the volume, logits averaged with Gaussian weights whose sigma is 1/8 of the tile size. Sums are float32. A volume that
is too large for one pass is tiled with the largest tiles that the memory allows. What must not be averaged, as feature
maps, is taken from the tile whose centre is nearest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.compute.device import empty_cache
from core.compute.precision import autocast
from core.imaging.content import Box, present_channels
from core.inference.forward_pass import ForwardFunction, forward_pass
from core.inference.logit_volume import LogitVolume
from core.inference.memory_limit import InferenceMemory, Passes
from core.inference.overflow import finite_logits
from core.inference.tile_grid import tile_starts
from core.models.indicator import with_indicator
from core.types import ProgressCallback, Size3, triple

SIGMA_SCALE = 0.125  # of the tile size
MIN_WEIGHT = 1e-3
FOREGROUND_MARGIN = 4  # voxels kept around the foreground
LEFT_RIGHT_AXIS = 2  # of (batch, channel, i, j, k)

Allocation = Callable[[int], Tensor]  # zeros for as many channels, (channel, i, j, k) on the grid of the image


@dataclass(frozen=True)
class InferenceOptions:
    """How a whole volume is segmented.

    Attributes
    ----------
    mode : str. "tiles" (sliding window), or "whole": one pass over the foreground; where it does not fit into memory,
        the largest tiles that do.
    tile : tuple of int. Tile size in voxels (i, j, k): the sub-volume size of training.
    overlap : float. Overlap of neighbouring tiles as a fraction of the tile, 0 to below 1.
    precision : str. "fp32", "bf16" or "fp16".
    mirror : bool. Average the logits with those of the left-right mirrored image, as nnU-Net does.
    swapped : tuple of (int, int). Pairs of channels that mirroring exchanges: left and right of one structure.
    overlapping : bool. Whether the channels are regions, of which there is none outside the foreground, instead of
        classes, of which the first is the background.
    both_passes : bool. With ``mirror``, whether the logits of the image alone follow those of the mean, as further
        channels.
    indicator : bool. Whether the network has input channels that state which channels of the image exist, those that
        have a voxel other than 0.
    averaged : bool. Whether values of overlapping tiles are averaged; else each voxel has those of the tile whose
        centre is nearest.

    Raises
    ------
    ValueError
        If the mode is unknown.
    """

    mode: str
    tile: Size3
    overlap: float = 0.5
    precision: str = "fp32"
    mirror: bool = False
    swapped: tuple[tuple[int, int], ...] = ()
    overlapping: bool = False
    both_passes: bool = False
    indicator: bool = False
    averaged: bool = True

    @property
    def logit_sets(self) -> int:
        """Logits of a volume: 2 where those of the image alone follow those of the mean."""
        return 2 if self.mirror and self.both_passes else 1

    def __post_init__(self) -> None:
        if self.mode not in ("tiles", "whole"):
            raise ValueError(f"mode: expected tiles or whole, got {self.mode!r}")


def gaussian_importance_map(tile: Size3, device: torch.device) -> Tensor:
    """Blending weights, float32, shape of the tile: highest in the centre, at least 0.001."""
    axes = []
    for n in tile:
        x = torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2
        axes.append(torch.exp(-(x**2) / (2 * (SIGMA_SCALE * n) ** 2)))
    weights = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    return weights.clamp_min(max(float(weights.min()), MIN_WEIGHT))


@torch.no_grad()
def sliding_window_inference(
    image: Tensor,
    predictor: ForwardFunction,
    tile: Size3,
    overlap: float = 0.5,
    batch_size: int = 1,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """Predict a volume with overlapping tiles.

    Parameters
    ----------
    image : Tensor, float32, shape (channel, i, j, k). Zero-padded symmetrically where it is smaller than the tile.
    predictor : callable. Maps (batch, channel, *tile) to logits (batch, class, *tile).
    tile : tuple of int. Tile size in voxels (i, j, k).
    overlap : float. Overlap of neighbouring tiles as a fraction of the tile, 0 to below 1.
    batch_size : int. Tiles per forward pass.
    progress : callable, optional. Called with (tiles done, total tiles).

    Returns
    -------
    Tensor, float32, shape (class, i, j, k). Logits.
    """
    tiles = _predicted_tiles(image, predictor, tile, overlap, batch_size, progress)
    return _blend(tiles, image, tile, _zeros_on_grid(image))


@torch.no_grad()
def nearest_tile_inference(
    image: Tensor,
    predictor: ForwardFunction,
    tile: Size3,
    overlap: float = 0.5,
    batch_size: int = 1,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """Predict a volume with overlapping tiles of which each voxel has the values of one: the tile whose centre is
    nearest, in units of the tile size along each axis; of equally near ones the first.

    Parameters and result are those of :func:`sliding_window_inference`; the values need not be logits.
    """
    distance = _distance_to_centre(tile, image.device)[_unpadded(image.shape[1:], tile)]
    nearest = torch.full(image.shape[1:], torch.inf, device=image.device)
    joined: Tensor | None = None
    for values, box in _predicted_tiles(image, predictor, tile, overlap, batch_size, progress):
        if joined is None:
            joined = _zeros_on_grid(image)(len(values))
        inside = joined[(slice(None), *box)]
        inside.copy_(torch.where(distance < nearest[box], values, inside))
        nearest[box] = torch.minimum(nearest[box], distance)
    assert joined is not None
    return joined


def _blend(tiles: Iterator[tuple[Tensor, Box]], image: Tensor, tile: Size3, allocate: Allocation) -> Tensor:
    """Mean of the logits of overlapping tiles of an image with Gaussian weights, added up where ``allocate`` says."""
    weights = gaussian_importance_map(tile, image.device)[_unpadded(image.shape[1:], tile)]
    weight_sum = torch.zeros(image.shape[1:], device=image.device)
    logit_sum: Tensor | None = None
    for logits, box in tiles:
        if logit_sum is None:
            logit_sum = allocate(len(logits))
        logit_sum[(slice(None), *box)] += logits * weights
        weight_sum[box] += weights
    assert logit_sum is not None
    logit_sum /= weight_sum
    return logit_sum


def _zeros_on_grid(image: Tensor) -> Allocation:
    """Allocates tensors on the grid and the device of an image (channel, i, j, k)."""
    return lambda channels: torch.zeros((channels, *image.shape[1:]), device=image.device)


def _predicted_tiles(
    image: Tensor,
    predictor: ForwardFunction,
    tile: Size3,
    overlap: float,
    batch_size: int,
    progress: ProgressCallback | None,
) -> Iterator[tuple[Tensor, Box]]:
    """What a predictor gives for each tile of an image, float32, shape (class, i, j, k), and its place in the image;
    parameters are those of :func:`sliding_window_inference`. What lies in padding is left out."""
    unpadded = (slice(None), *_unpadded(image.shape[1:], tile))  # of a tile, too: it covers a padded axis
    padded = _pad_to_size(image, tile)
    starts = [tile_starts(n, t, overlap) for n, t in zip(padded.shape[-3:], tile, strict=True)]
    corners = [(i, j, k) for i in starts[0] for j in starts[1] for k in starts[2]]
    for first in range(0, len(corners), batch_size):
        boxes = [_box(corner, tile) for corner in corners[first : first + batch_size]]
        predicted = predictor(torch.stack([padded[(slice(None), *box)] for box in boxes])).float()
        for values, box in zip(predicted, boxes, strict=True):
            yield values[unpadded], box
        if progress is not None:
            progress(min(first + batch_size, len(corners)), len(corners))


def _box(corner: tuple[int, int, int], tile: Size3) -> Box:
    i, j, k = (slice(c, c + t) for c, t in zip(corner, tile, strict=True))
    return i, j, k


def _distance_to_centre(tile: Size3, device: torch.device) -> Tensor:
    """Squared distance of each voxel of a tile to its centre, in units of the tile size along each axis, float32."""
    i, j, k = (((torch.arange(n, device=device) - (n - 1) / 2) / n).square() for n in tile)
    return i[:, None, None] + j[None, :, None] + k[None, None, :]


def foreground_box(image: Tensor, margin: int = FOREGROUND_MARGIN) -> Box:
    """Bounding box of the voxels that are non-zero in any channel, with a margin. Waits for the device.

    Parameters
    ----------
    image : Tensor, shape (channel, i, j, k).
    margin : int. Voxels added on each side, cut at the edge of the volume.

    Returns
    -------
    tuple of slice. The whole volume if every voxel is zero.
    """
    nonzero = (image != 0).any(dim=0)
    if not bool(nonzero.any()):
        return slice(0, image.shape[1]), slice(0, image.shape[2]), slice(0, image.shape[3])
    box = []
    for axis, length in enumerate(nonzero.shape):
        others = tuple(a for a in range(3) if a != axis)
        indices = nonzero.any(dim=others[1]).any(dim=others[0]).nonzero().flatten()
        box.append(slice(max(int(indices[0]) - margin, 0), min(int(indices[-1]) + 1 + margin, length)))
    return box[0], box[1], box[2]


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    image: Tensor,
    options: InferenceOptions,
    *,
    memory_bytes: int | None = None,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """Logits of one whole volume.

    Only the foreground (:func:`foreground_box`) is predicted, the rest is background: under instance norm, tiles that
    contain only zeros are unlike any sub-volume of training. For the same reason a foreground smaller than a sub-volume
    of training is zero-padded to that size, as in training.

    Parameters
    ----------
    model : Module. Runs in evaluation mode; its training mode is restored afterwards.
    image : Tensor, float32, shape (channel, i, j, k). On the model's device; without the channels of an indicator.
    options : InferenceOptions. Mode, tile, overlap, precision, mirroring.
    memory_bytes : int, optional. Estimated device memory that a pass may take (:mod:`core.inference.memory_limit`);
        most of the free memory by default. It limits the tile size in mode "whole", and the number of images in a
        batch; the sub-volume size of training is always accepted.
    progress : callable, optional. Called with (passes done, total passes).

    Returns
    -------
    Tensor, float32, shape (class, i, j, k); twice as many channels with ``both_passes``. Finite: where values overflow
    in a lower precision, all is computed again in fp32.

    Raises
    ------
    DeviceError
        If the logits do not fit into the free memory, unless ``memory_bytes`` is given.
    NonFiniteLogitsError
        If the logits are not finite in fp32 either.
    """
    was_training = model.training
    model.eval()
    box = foreground_box(image)
    foreground = image[(slice(None), *box)]

    def predicted(precision: str) -> Tensor:
        chosen = dataclasses.replace(options, precision=precision)
        memory = InferenceMemory(model, image, precision, memory_bytes, options.logit_sets)
        memory.check_logits(triple(foreground.shape[1:]))
        volume = LogitVolume(image, box, options.overlapping, options.logit_sets)
        with autocast(image.device, precision):
            predict_foreground(network_pass(model, image, chosen), foreground, chosen, memory, progress, volume)
        return volume.logits

    try:
        return finite_logits(predicted, options.precision)
    finally:
        model.train(was_training)


def network_pass(model: nn.Module, image: Tensor, options: InferenceOptions) -> ForwardFunction:
    """One pass of the model over parts of an image, (batch, channel, i, j, k), whose indicator is that of the whole
    image."""
    if not options.indicator:
        return lambda images: forward_pass(model, images, options.precision)
    present = present_channels(image)
    return lambda images: forward_pass(model, with_indicator(images, [present] * len(images)), options.precision)


def predict_foreground(
    network: ForwardFunction,
    foreground: Tensor,
    options: InferenceOptions,
    memory: InferenceMemory,
    progress: ProgressCallback | None,
    volume: LogitVolume | None = None,
) -> Tensor:
    """Logits, or what else the network gives, of the foreground (channel, i, j, k): one pass where the options ask for
    it and it fits, else tiles. They are put into the volume, where one is given.

    Where the memory does not suffice although it was estimated to, smaller passes follow, down to single images of the
    tile of the options.
    """
    size, images = triple(foreground.shape[1:]), 2 if options.mirror else 1
    while True:
        passes = memory.passes(size, options.tile, images, whole=options.mode == "whole")
        try:
            return _predict_in(passes, network, foreground, options, progress, volume)
        except (MemoryError, RuntimeError) as error:
            if not memory.lower_after(error, passes, options.tile):
                raise
        empty_cache(foreground.device)  # here the error is gone, and with it the tensors of the pass


def _predict_in(
    passes: Passes,
    network: ForwardFunction,
    foreground: Tensor,
    options: InferenceOptions,
    progress: ProgressCallback | None,
    volume: LogitVolume | None,
) -> Tensor:
    """As :func:`predict_foreground`, in these passes."""
    forward = _forward_function(network, options, passes.flip_in_batch)
    if not passes.whole:
        how = forward, passes.tile, options.overlap, passes.batch_size, progress
        if not options.averaged:
            return nearest_tile_inference(foreground, *how)
        allocate = _zeros_on_grid(foreground) if volume is None else volume.foreground
        return _blend(_predicted_tiles(foreground, *how), foreground, passes.tile, allocate)
    unpadded = _unpadded(foreground.shape[1:], passes.tile)
    logits = forward(_pad_to_size(foreground, passes.tile)[None])[0].float()[(slice(None), *unpadded)]
    logits = logits if volume is None else volume.put(logits)
    if progress is not None:
        progress(1, 1)
    return logits


def _forward_function(forward: ForwardFunction, options: InferenceOptions, flip_in_batch: bool) -> ForwardFunction:
    """The network as a function of images (batch, channel, i, j, k); with mirroring, the mean of the logits of the
    images and of the mirrored images, in one batch if ``flip_in_batch``."""

    def forward_mirrored(images: Tensor) -> Tensor:
        mirrored = images.flip(LEFT_RIGHT_AXIS)
        if flip_in_batch:
            logits, flipped = forward(torch.cat((images, mirrored))).float().chunk(2)
        else:
            logits, flipped = forward(images).float(), forward(mirrored).float()
        mean = (logits + _unmirror(flipped, options.swapped)) / 2
        return torch.cat((mean, logits), dim=1) if options.both_passes else mean

    return forward_mirrored if options.mirror else forward


def _unmirror(logits: Tensor, swapped: Sequence[tuple[int, int]]) -> Tensor:
    """Logits (batch, class, i, j, k) of mirrored images on the grid of the images, with left and right exchanged."""
    logits = logits.flip(LEFT_RIGHT_AXIS)
    if not swapped:
        return logits
    order = list(range(logits.shape[1]))
    for a, b in swapped:
        order[a], order[b] = b, a
    return logits[:, order]


def _pad_to_size(image: Tensor, size: Size3) -> Tensor:
    """An image (channel, i, j, k) zero-padded symmetrically to at least ``size``."""
    missing = [max(s - n, 0) for s, n in zip(size, image.shape[-3:], strict=True)]
    if not any(missing):
        return image
    return F.pad(image, [v for m in missing[::-1] for v in (m // 2, m - m // 2)])


def _unpadded(shape: Sequence[int], size: Size3) -> Box:
    """Index (i, j, k) of an image of this shape in itself, padded by :func:`_pad_to_size`."""
    before = (max(s - n, 0) // 2 for s, n in zip(size, shape, strict=True))
    i, j, k = (slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return i, j, k
