"""Limits tile size and batch size of inference to the device memory that is free.

The memory of a forward pass is estimated by tracing the network without values (:mod:`core.compute.tracing`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from core.compute.device import free_bytes
from core.compute.precision import DTYPES, autocast
from core.compute.tracing import (
    HEAP_PER_BYTE_OF_INFERENCE,
    AllocationTracer,
    CudaAutocast,
    fake_tensors,
    heap_bytes,
)
from core.inference.forward_pass import forward_pass
from core.models.blocks import SegmentationNetwork
from core.models.network_trace import build_fake_network
from core.types import Size3, triple

FREE_FRACTION = 0.8  # of the free memory; the estimate may be too low by a fifth
BATCH_VOXELS = {"cpu": 0, "cuda": 2 * 96**3}  # tiles are batched up to this number of voxels


class InferenceMemory:
    """Memory available to one forward pass; no limit for a network that is not a ``SegmentationNetwork``.

    Parameters
    ----------
    model : Module. The network.
    image : Tensor, shape (channel, i, j, k). The volume to segment, on the device.
    precision : str. "fp32", "bf16" or "fp16".
    limit_bytes : int, optional. Memory that a pass and the logits may take; most of the free memory by default.
    logit_sets : int. How many times the logits of the volume are held.
    """

    def __init__(
        self,
        model: nn.Module,
        image: Tensor,
        precision: str,
        limit_bytes: float | None = None,
        logit_sets: int = 1,
    ) -> None:
        self.network = model if isinstance(model, SegmentationNetwork) else None
        self.device, self.precision = image.device, precision
        self.available_bytes = math.inf
        self._traced: dict[tuple[Size3, int], int] = {}
        if self.network is None:
            return
        limit = FREE_FRACTION * free_bytes(image.device) if limit_bytes is None else limit_bytes
        logits_and_weights = 4 * (logit_sets * self.network.classes + 1) * image[0].numel()
        self.available_bytes = limit - logits_and_weights

    def fits(self, size: Size3, batch_size: int) -> bool:
        """Whether a forward pass over a batch of this size fits."""
        return self.network is None or self.pass_bytes(size, batch_size) <= self.available_bytes

    def pass_bytes(self, size: Size3, batch_size: int) -> int:
        """Estimated peak of a forward pass, without the weights."""
        assert self.network is not None
        key = (size, batch_size)
        if key not in self._traced:
            self._traced[key] = inference_bytes(self.network, size, batch_size, self.precision, self.device.type)
        return self._traced[key]

    def largest_tile(self, size: Size3, minimum: Size3) -> Size3:
        """The largest tile that fits: ``size`` with its longest sides shortened to multiples of the network's divisor,
        no side below that of ``minimum``."""
        if self.network is None or self.fits(size, 1):
            return size
        tiles = list(_smaller_tiles(size, minimum, self.network.divisor))
        number = bisect_left(tiles, True, key=lambda tile: self.fits(tile, 1))
        return tiles[number] if number < len(tiles) else minimum

    def batch_size(self, tile: Size3, images_per_tile: int) -> int:
        """Tiles per forward pass.

        Parameters
        ----------
        tile : tuple of int. Tile size in voxels.
        images_per_tile : int. 2 with mirroring, else 1.
        """
        most = max(1, tile_batch_size(tile, self.device) // images_per_tile)
        sizes = range(most, 1, -1)
        number = bisect_left(sizes, True, key=lambda n: self.fits(tile, images_per_tile * n))
        return sizes[number] if number < len(sizes) else 1


def _smaller_tiles(size: Size3, minimum: Size3, divisor: Size3) -> Iterator[Size3]:
    """Smaller tiles in descending order: the longest side shortened to a multiple of the divisor first."""
    sides = list(size)
    while longer := [axis for axis in range(3) if sides[axis] > minimum[axis]]:
        axis = max(longer, key=lambda a: sides[a])
        sides[axis] = max(minimum[axis], (sides[axis] - 1) // divisor[axis] * divisor[axis])
        yield triple(sides)


def tile_batch_size(tile: Size3, device: torch.device) -> int:
    """Tiles per forward pass that use a device well: several small tiles on a GPU, one on a CPU."""
    return max(1, BATCH_VOXELS.get(device.type, 0) // math.prod(tile))


@torch.no_grad()
def inference_bytes(
    network: SegmentationNetwork, size: Size3, batch_size: int = 1, precision: str = "bf16", device: str = "cpu"
) -> int:
    """Estimated peak memory in bytes of a forward pass without gradients, without the weights.

    The images and the logits in fp32 are counted.

    Parameters
    ----------
    network : SegmentationNetwork.
    size : tuple of int. Voxels of a tile along (i, j, k).
    batch_size : int. Tiles in one pass.
    precision : str. "fp32", or the lower precision of autocast.
    device : str. "cpu" or "cuda".
    """
    cpu = torch.device("cpu")
    mixed = CudaAutocast(DTYPES[precision]) if device != "cpu" and precision != "fp32" else autocast(cpu, precision)
    with fake_tensors():
        # Another network of the same kind: hooks of the real one are not called.
        fake = build_fake_network(network.config, network.in_channels, network.classes).eval()
        with AllocationTracer(device) as tracer:
            tracer.follow([*fake.parameters(), *fake.buffers()])
            weight_bytes = tracer.used
            images = torch.empty(batch_size, network.in_channels, *size)
            with mixed:
                logits = forward_pass(fake, images, precision if device == "cpu" else "fp32")
            logits.float()
    peak = tracer.peak - weight_bytes
    return peak if device != "cpu" else heap_bytes(peak, 0, HEAP_PER_BYTE_OF_INFERENCE)
