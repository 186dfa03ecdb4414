"""The least time that a training step can take on this machine, level by level.

Each convolution is three products of matrices - forward, gradient of its input, gradient of its kernel - and reads and
writes its input and output three times. A level's bound is the sum over its convolutions of what takes longer: the
products or the memory, at the speed of copying. On a CPU, whose kernels unfold images, the products have the speed that
was measured for unfolded images of exactly these shapes; a GPU's kernels do not unfold, and theirs is the peak of large
square products. Normalisation, activation, casts and the optimizer are taken to cost nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from core.bench.contenders import CLASSES, IN_CHANNELS
from core.bench.machine import synchronise
from core.bench.report import Row
from core.config import ModelConfig
from core.models.cost import Layer, layers_of, padded_size
from core.types import Size3

MOST_ROWS = {"cpu": 2**14, "cuda": 2**18}  # voxels of a product; more of them only take longer
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**31}
REPEATS = 3
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class _Product:
    """Rows, inner size and columns of a product of matrices."""

    rows: int
    inner: int
    columns: int

    @property
    def gflop(self) -> float:
        return 2 * self.rows * self.inner * self.columns / 1e9


def bounds(
    model: ModelConfig, batch: int, size: Size3, device: torch.device, precision: str, peak_tflops: float | None
) -> list[Row]:
    """A row for each level, full resolution first, and one for all of them.

    Parameters
    ----------
    model : the network, with its channels.
    batch, size : sub-volumes in a step, and their voxels.
    precision : "fp32" or "bf16".
    peak_tflops : of large products in that precision; it counts on CUDA alone.
    """
    peak = peak_tflops if device.type == "cuda" else None
    padded = padded_size(size, len(model.channels))
    dtype = DTYPES[precision]
    bytes_per_s = _copied_bytes_per_s(device)
    gflop = [0.0] * len(model.channels)
    seconds = [0.0] * len(model.channels)
    for number, layer in enumerate(layers_of(model, IN_CHANNELS, CLASSES)):
        voxels = batch * math.prod(n >> layer.level for n in padded)
        moved = 3 * (layer.in_channels + layer.out_channels) * voxels * dtype.itemsize
        products = list(_products(layer, voxels, of_image=number == 0))
        gflop[layer.level] += sum(p.gflop for p in products)
        computed_s = sum(p.gflop / 1000 / (peak or _tflops(p, device, dtype)) for p in products)
        seconds[layer.level] += max(computed_s, moved / bytes_per_s)
    rows = [
        _row(f"bound at {'x'.join(str(n >> level) for n in padded)}, {width} channels", precision, batch, g, s)
        for level, (width, g, s) in enumerate(zip(model.channels, gflop, seconds, strict=True))
    ]
    everything = _row("bound of all levels", precision, batch, sum(gflop), sum(seconds))
    return [*rows, everything]


def _row(name: str, precision: str, batch: int, gflop: float, seconds: float) -> Row:
    return Row(name, precision, batch, ms=1000 * seconds, gflop=gflop, tflops=gflop / 1000 / seconds)


def _products(layer: Layer, voxels: int, of_image: bool) -> Iterator[_Product]:
    """Forward, gradient of the input (which an image has not), gradient of the kernel."""
    if layer.gathers is None:
        rows, inner, columns = voxels, layer.kernel * layer.in_channels, layer.out_channels
    else:  # transposed: each voxel below makes a block of them
        rows, inner, columns = voxels // layer.kernel, layer.in_channels, layer.kernel * layer.out_channels
    yield _Product(rows, inner, columns)
    if not of_image:
        yield _Product(rows, columns, inner)
    yield _Product(inner, rows, columns)


def _tflops(product: _Product, device: torch.device, dtype: torch.dtype) -> float:
    """The best of some tries, of no more voxels than are needed to be as fast as with all of them."""
    most = MOST_ROWS[device.type]
    shape = _Product(min(product.rows, most), min(product.inner, most), product.columns)
    one = torch.randn(shape.rows, shape.inner, device=device, dtype=dtype)
    other = torch.randn(shape.inner, shape.columns, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(REPEATS + 1):
        synchronise(device)
        began = time.perf_counter()
        torch.matmul(one, other)
        synchronise(device)
        best = min(best, time.perf_counter() - began)
    return shape.gflop / 1000 / best


def _copied_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written in a second while one tensor is copied to another, the best of some tries."""
    one = torch.zeros(COPIED_BYTES[device.type] // 4, device=device)
    other = torch.zeros_like(one)
    best = float("inf")
    for _ in range(REPEATS):
        synchronise(device)
        began = time.perf_counter()
        other.copy_(one)
        synchronise(device)
        best = min(best, time.perf_counter() - began)
    return 2 * one.nbytes / best
