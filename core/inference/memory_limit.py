"""Limits tile size and batch size of inference to the device memory that is free.

The memory of a forward pass is estimated by tracing the network without values (:mod:`core.compute.tracing`). Where a
pass needs more than that, the limit is lowered, and smaller passes follow.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.compute.allocator import trim_heap
from core.compute.device import free_bytes, out_of_memory_error
from core.compute.precision import DTYPES, autocast
from core.compute.tracing import (
    HEAP_PER_BYTE_OF_INFERENCE,
    AllocationTracer,
    CudaAutocast,
    fake_tensors,
    heap_bytes,
)
from core.errors import DeviceError
from core.formatting import format_bytes, format_size
from core.inference.forward_pass import forward_pass
from core.models.blocks import SegmentationNetwork
from core.models.network_trace import build_fake_network
from core.types import Size3, triple

FREE_FRACTION = 0.8  # of the free memory; the estimate may be too low by a fifth
BATCH_VOXELS = {"cpu": 0, "cuda": 2 * 96**3}  # tiles are batched up to this number of voxels


@dataclass(frozen=True)
class Passes:
    """The forward passes over a volume.

    Attributes
    ----------
    tile : tuple of int. Tile size in voxels.
    batch_size : int. Tiles per pass.
    images_per_tile : int. 2 with mirroring, else 1.
    flip_in_batch : bool. Whether mirrored images are in the same pass as the others.
    whole : bool. Whether the only tile is the volume.
    """

    tile: Size3
    batch_size: int
    images_per_tile: int
    flip_in_batch: bool
    whole: bool

    @property
    def images(self) -> int:
        """Images per pass."""
        return self.batch_size * (self.images_per_tile if self.flip_in_batch else 1)


class InferenceMemory:
    """Memory available to one forward pass; no limit for a network that is not a ``SegmentationNetwork``.

    Parameters
    ----------
    model : Module. The network.
    image : Tensor, shape (channel, i, j, k). The volume to segment, on the device.
    precision : str. "fp32", "bf16" or "fp16".
    limit_bytes : int, optional. Memory that a pass and the logits may take; most of the free memory by default.
    logit_sets : int. Logits of the volume that are held, 2 where those of another pass follow.
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
        self.logit_sets = logit_sets
        self._measures = limit_bytes is None
        self._traced: dict[tuple[Size3, int], int] = {}
        if self.network is None:
            return
        limit = FREE_FRACTION * free_bytes(image.device) if limit_bytes is None else limit_bytes
        logits_and_weights = 4 * (logit_sets * self.network.classes + 1) * image[0].numel()
        self.available_bytes = limit - logits_and_weights

    def check_logits(self, size: Size3) -> None:
        """Refuse a volume whose logits and weights do not fit into the free memory, before the kernel ends the process;
        nothing is refused under a given limit.

        Parameters
        ----------
        size : tuple of int. Voxels of the foreground: memory outside of it may remain untouched.

        Raises
        ------
        DeviceError
            If they do not fit.
        """
        if self.network is None or not self._measures:
            return
        needed_bytes = 4 * (self.logit_sets * self.network.classes + 1) * math.prod(size)
        if needed_bytes <= free_bytes(self.device):
            return
        if self.device.type == "cpu":
            trim_heap()  # what the process has freed and retained
        free = free_bytes(self.device)
        if needed_bytes > free:
            raise DeviceError(
                f"not enough memory: logits of {self.network.classes} channels and {format_size(size)} voxels take "
                f"{format_bytes(needed_bytes)}, {format_bytes(free)} are free; end other programs, or use a machine "
                "or device with more memory"
            )

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

    def passes(self, size: Size3, tile: Size3, images_per_tile: int, *, whole: bool) -> Passes:
        """The forward passes over a volume that use the available memory.

        Parameters
        ----------
        size : tuple of int. Voxels of the volume.
        tile : tuple of int. Tile size in voxels; padded to it where the volume is smaller.
        images_per_tile : int. 2 with mirroring, else 1.
        whole : bool. Whether one pass over the volume is asked for, or else the largest tiles.
        """
        if whole:
            padded = triple([max(n, t) for n, t in zip(size, tile, strict=True)])
            tile = self.largest_tile(padded, minimum=tile)
            whole = tile == padded
        batch_size = 1 if whole else self.batch_size(tile, images_per_tile)
        return Passes(tile, batch_size, images_per_tile, self.fits(tile, images_per_tile * batch_size), whole)

    def lower_after(self, error: BaseException, passes: Passes, minimum: Size3) -> bool:
        """After an error, take the available memory for less than these passes were estimated to need.

        Parameters
        ----------
        error : BaseException. What a pass raised.
        passes : Passes.
        minimum : tuple of int. Smallest tile size in voxels.

        Returns
        -------
        Whether smaller passes may succeed: ``False`` for an error of another kind, and where there are none.
        """
        smallest = passes.tile == minimum and passes.images == 1
        if smallest or self.network is None or out_of_memory_error(error, self.device) is None:
            return False
        self.available_bytes = FREE_FRACTION * self.pass_bytes(passes.tile, passes.images)
        return True


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
