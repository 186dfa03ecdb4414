"""Roofline model: lower bound of the time of a training step on this machine, level by level.

Each convolution is three matrix products (forward, gradient of the input, gradient of the kernel), and reads and writes
its input and output three times. The bound of a level is the sum over its convolutions of the longer of the two: the
products, or the memory traffic at the bandwidth of a copy. CPU kernels unfold images (im2col), so their products are
timed on unfolded images of the same shapes; GPU kernels do not, and their products run at the measured matmul peak.
Normalisation, activation, casts and the optimizer count as free.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from core.bench.implementations import CLASSES, IN_CHANNELS
from core.bench.machine import defaults_of, synchronize
from core.bench.report import Row
from core.compute.convolution_workspace import TracedConvolution
from core.compute.precision import DTYPES
from core.config import ModelConfig
from core.formatting import format_size
from core.models import resolve, size_divisor
from core.models.network_trace import trace_network
from core.types import Size3, triple

MAX_ROWS = {"cpu": 2**14, "cuda": 2**18}  # of a timed product; the time per row does not fall with more
COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}
REPEATS = 3


@dataclass(frozen=True)
class _MatrixProduct:
    """Shape of a matrix product: (rows, inner) times (inner, columns)."""

    rows: int
    inner: int
    columns: int

    @property
    def gflop(self) -> float:
        return 2 * self.rows * self.inner * self.columns / 1e9


def lower_bounds(
    model: ModelConfig, batch: int, size: Size3, device: torch.device, precision: str, peak_tflops: float | None
) -> list[Row]:
    """A row for each level, full resolution first, and one for their sum.

    Parameters
    ----------
    model : ModelConfig. With ``channels``.
    batch : int. Batch size.
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    device : torch.device.
    precision : str. "fp32" or "bf16".
    peak_tflops : float, optional. Matmul peak in that precision; used on CUDA only.
    """
    peak = peak_tflops if device.type == "cuda" else None
    divisor = size_divisor(model)
    padded = triple([math.ceil(n / divisor) * divisor for n in size])
    dtype = DTYPES[precision]
    bandwidth = _copy_bandwidth(device)
    channels = resolve(model).channels
    gflop = [0.0] * len(channels)
    seconds = [0.0] * len(channels)
    for number, layer in enumerate(trace_network(model, IN_CHANNELS, CLASSES, padded).convolutions):
        level = (padded[0] // layer.out_size[0]).bit_length() - 1
        voxels = batch * math.prod(layer.out_size)
        moved_bytes = 3 * (layer.in_channels + layer.out_channels) * voxels * dtype.itemsize
        products = list(_products(layer, voxels, first=number == 0))
        gflop[level] += sum(p.gflop for p in products)
        compute_s = sum(p.gflop / 1000 / (peak or _tflops(p, device, dtype)) for p in products)
        seconds[level] += max(compute_s, moved_bytes / bandwidth)
    rows = [
        _row(f"bound at {format_size(n >> level for n in padded)}, {width} channels", precision, batch, g, s)
        for level, (width, g, s) in enumerate(zip(channels, gflop, seconds, strict=True))
    ]
    total = _row("bound of all levels", precision, batch, sum(gflop), sum(seconds))
    return [*rows, total]


def _row(name: str, precision: str, batch: int, gflop: float, seconds: float) -> Row:
    return Row(name, precision, batch, ms=1000 * seconds, gflop=gflop, tflops=gflop / 1000 / seconds)


def _products(layer: TracedConvolution, voxels: int, first: bool) -> Iterator[_MatrixProduct]:
    """Forward, gradient of the input (not needed in the first layer), gradient of the kernel."""
    taps = math.prod(layer.kernel_size)
    if not layer.transposed:
        rows, inner, columns = voxels, taps * layer.in_channels, layer.out_channels
    else:  # transposed: each input voxel gives a block of output voxels
        rows, inner, columns = voxels // math.prod(layer.stride), layer.in_channels, taps * layer.out_channels
    yield _MatrixProduct(rows, inner, columns)
    if not first:
        yield _MatrixProduct(rows, columns, inner)
    yield _MatrixProduct(inner, rows, columns)


def _tflops(product: _MatrixProduct, device: torch.device, dtype: torch.dtype) -> float:
    """Best of several products, of at most :data:`MAX_ROWS` rows."""
    limit = MAX_ROWS[defaults_of(device)]
    shape = _MatrixProduct(min(product.rows, limit), min(product.inner, limit), product.columns)
    left = torch.randn(shape.rows, shape.inner, device=device, dtype=dtype)
    right = torch.randn(shape.inner, shape.columns, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(REPEATS + 1):
        synchronize(device)
        started = time.perf_counter()
        torch.matmul(left, right)
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return shape.gflop / 1000 / best


def _copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written per second while a tensor is copied; best of several copies."""
    source = torch.zeros(COPY_BYTES[defaults_of(device)] // 4, device=device)
    target = torch.zeros_like(source)
    best = float("inf")
    for _ in range(REPEATS):
        synchronize(device)
        started = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * source.nbytes / best
