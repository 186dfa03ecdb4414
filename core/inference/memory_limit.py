"""Limits tile size and batch size of inference to the device memory that is free, by the estimate of
:mod:`core.models.memory`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from core.compute.device import free_bytes
from core.models.blocks import SegmentationNetwork
from core.models.memory import PassShape, inference_bytes
from core.types import Size3, triple

FREE_FRACTION = 0.8  # of the free memory; the estimate may be too low by a fifth
BATCH_VOXELS = {"cpu": 0, "cuda": 2 * 96**3}  # tiles are batched up to this number of voxels


class InferenceMemory:
    """Memory available to one forward pass; no limit for a network that is not a ``SegmentationNetwork``.

    Parameters
    ----------
    model : Module. The network.
    image : Tensor, shape (channel, i, j, k). The volume to segment, on the device.
    precision : str. "fp32" or "bf16".
    limit_bytes : int, optional. Memory that a pass and the logits may take; most of the free memory by default.
    """

    def __init__(self, model: nn.Module, image: Tensor, precision: str, limit_bytes: float | None = None) -> None:
        self.network = model if isinstance(model, SegmentationNetwork) else None
        self.device, self.precision = image.device, precision
        self.available_bytes = math.inf
        if self.network is None:
            return
        limit = FREE_FRACTION * free_bytes(image.device) if limit_bytes is None else limit_bytes
        logits_and_weights = 4 * (self.network.classes + 1) * image[0].numel()
        self.available_bytes = limit - logits_and_weights

    def fits(self, size: Size3, batch_size: int) -> bool:
        """Whether a forward pass over a batch of this size fits."""
        if self.network is None:
            return True
        network = self.network
        shape = PassShape(network.in_channels, network.classes, size, batch_size, self.precision, self.device.type)
        return inference_bytes(network.config, shape) <= self.available_bytes

    def largest_tile(self, size: Size3, minimum: Size3) -> Size3:
        """The largest tile that fits: ``size`` with its longest sides shortened to multiples of the network's divisor,
        no side below that of ``minimum``."""
        sides = list(size)
        while self.network is not None and not self.fits(triple(sides), 1):
            longer = [axis for axis in range(3) if sides[axis] > minimum[axis]]
            if not longer:
                break
            axis = max(longer, key=lambda a: sides[a])
            divisor = self.network.divisor[axis]
            sides[axis] = max(minimum[axis], (sides[axis] - 1) // divisor * divisor)
        return triple(sides)

    def batch_size(self, tile: Size3, images_per_tile: int) -> int:
        """Tiles per forward pass.

        Parameters
        ----------
        tile : tuple of int. Tile size in voxels.
        images_per_tile : int. 2 with mirroring, else 1.
        """
        batch_size = max(1, tile_batch_size(tile, self.device) // images_per_tile)
        while batch_size > 1 and not self.fits(tile, images_per_tile * batch_size):
            batch_size -= 1
        return batch_size


def tile_batch_size(tile: Size3, device: torch.device) -> int:
    """Tiles per forward pass that use a device well: several small tiles on a GPU, one on a CPU."""
    return max(1, BATCH_VOXELS.get(device.type, 0) // math.prod(tile))
