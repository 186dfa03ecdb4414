"""Temporary memory of a convolution: the copies that its library makes while it runs.

On a CPU oneDNN keeps channels side by side in blocks, and takes transposes for the gradient of bf16 kernels; small
single images in fp32 are unfolded by torch instead. The rules were found by observing torch 2.13 on a CPU with bfloat16
instructions. CUDA was not measured; cuDNN is assumed to need copies of input, output and kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FP32 = 4  # bytes of a value
MAX_IM2COL_VALUES = 20_480  # of a slab (channels, i, j) up to which torch unfolds a single fp32 image on a CPU
MAX_IM2COL_KERNEL = 3
FEW_CHANNELS = 3  # that oneDNN reads without a copy
HALF_BLOCK, BLOCK = 8, 16  # channels, multiples to which it pads its copies
TRANSPOSED_SUMS = 3  # copies of the kernel's gradient of a transposed convolution in bf16, in fp32


@dataclass(frozen=True)
class TracedConvolution:
    """One convolution of a forward or backward pass, of two or three dimensions.

    Attributes
    ----------
    batch, in_channels, out_channels : int
    size, out_size : tuple of int. Voxels of input and output along each axis.
    kernel_size, stride : tuple of int
    groups : int
    transposed : bool
    itemsize : int. Bytes of one value.
    channels_last : bool. Whether the channels of a voxel are side by side in the input, which oneDNN reads as it is.
    """

    batch: int
    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    out_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    transposed: bool
    itemsize: int
    channels_last: bool

    @classmethod
    def of_forward(cls, args: tuple[Any, ...], output: Tensor) -> TracedConvolution:
        """From the arguments of ``aten.convolution`` and its output."""
        return cls._of(args[0], args[1], output, args[3], args[6], args[8])

    @classmethod
    def of_backward(cls, args: tuple[Any, ...]) -> TracedConvolution:
        """From the arguments of ``aten.convolution_backward``."""
        return cls._of(args[1], args[2], args[0], args[4], args[7], args[9])

    @classmethod
    def _of(
        cls, x: Tensor, kernel: Tensor, output: Tensor, stride: Any, transposed: bool, groups: int
    ) -> TracedConvolution:
        axes = x.ndim - 2
        memory_format = {2: torch.channels_last, 3: torch.channels_last_3d}.get(axes)
        return cls(
            batch=int(x.shape[0]),
            in_channels=int(x.shape[1]),
            out_channels=int(output.shape[1]),
            size=tuple(x.shape[2:]),
            out_size=tuple(output.shape[2:]),
            kernel_size=tuple(kernel.shape[2:]),
            stride=tuple(stride) if len(stride) == axes else (int(stride[0]),) * axes,
            groups=int(groups),
            transposed=bool(transposed),
            itemsize=x.dtype.itemsize,
            channels_last=memory_format is not None
            and not x.is_contiguous()
            and x.is_contiguous(memory_format=memory_format),
        )

    @property
    def kernel_bytes(self) -> int:
        """Bytes of the kernel in the precision of the input."""
        return self.itemsize * self.kernel_values

    @property
    def kernel_values(self) -> int:
        """Number of weights of the kernel."""
        return self.in_channels * self.out_channels // self.groups * math.prod(self.kernel_size)

    @property
    def output_bytes(self) -> int:
        """Bytes of the output."""
        return self.itemsize * self.batch * self.out_channels * math.prod(self.out_size)

    @property
    def input_bytes(self) -> int:
        """Bytes of the input."""
        return self.itemsize * self.batch * self.in_channels * math.prod(self.size)


def forward_bytes(convolution: TracedConvolution, device: str) -> int:
    """Most bytes that are in use beside the input while the output is computed, the output included."""
    columns = _im2col_bytes(convolution, device)
    if columns:
        return columns + convolution.output_bytes
    source, target = _copied_bytes(convolution, device)
    return max(source + target + convolution.kernel_bytes, target + convolution.output_bytes)


def backward_bytes(convolution: TracedConvolution, device: str, input_gradient: bool) -> int:
    """Most bytes that are in use beside input and gradient of the output while the gradients are computed, the results
    included.

    Parameters
    ----------
    input_gradient : bool. Whether the gradient of the input is computed, beside that of the kernel.
    """
    kernel = convolution.kernel_bytes
    computed = convolution.input_bytes if input_gradient else 0
    columns = _im2col_bytes(convolution, device)
    if columns:
        return columns + computed + kernel
    source, target = _copied_bytes(convolution, device)
    half = convolution.itemsize < FP32
    transposes = half and device == "cpu" and max(convolution.kernel_size) > 1 and convolution.in_channels > HALF_BLOCK
    sums = FP32 * convolution.kernel_values * (2 if half else 1)
    if transposes and convolution.transposed:
        sums = FP32 * _padded_kernel_values(convolution) * TRANSPOSED_SUMS
        target = max(target, _padded_output_bytes(convolution))
    of_kernel = computed + (source + target) * (2 if transposes else 1) + kernel + sums
    return max(source + target + kernel, of_kernel) if input_gradient else of_kernel


def _copied_bytes(convolution: TracedConvolution, device: str) -> tuple[int, int]:
    """Bytes of a library's own copies of input and output."""
    c = convolution
    if c.channels_last and device == "cpu":
        return 0, 0
    voxels, out_voxels = c.batch * math.prod(c.size), c.batch * math.prod(c.out_size)
    if device != "cpu":
        return c.itemsize * c.in_channels * voxels, c.itemsize * c.out_channels * out_voxels
    source_block = HALF_BLOCK if c.in_channels <= HALF_BLOCK else BLOCK
    target_block = HALF_BLOCK if c.transposed and c.out_channels <= HALF_BLOCK else BLOCK
    source = 0 if c.in_channels <= FEW_CHANNELS else _round_up(c.in_channels, source_block) * voxels
    return c.itemsize * source, c.itemsize * _round_up(c.out_channels, target_block) * out_voxels


def _padded_kernel_values(convolution: TracedConvolution) -> int:
    """Weights of the kernel with the channels of each group padded to blocks."""
    c = convolution
    inputs, outputs = (_round_up(math.ceil(n / c.groups), BLOCK) for n in (c.in_channels, c.out_channels))
    return c.groups * inputs * outputs * math.prod(c.kernel_size)


def _padded_output_bytes(convolution: TracedConvolution) -> int:
    """Bytes of the output with the channels of each group padded to blocks, two of them at least."""
    c = convolution
    channels = max(2 * BLOCK, c.groups * _round_up(math.ceil(c.out_channels / c.groups), BLOCK))
    return c.itemsize * c.batch * channels * math.prod(c.out_size)


def _im2col_bytes(convolution: TracedConvolution, device: str) -> int:
    """Bytes of an unfolded image, where torch convolves by a matrix product; 0 where it does not."""
    c = convolution
    if device != "cpu" or c.itemsize < FP32 or c.batch > 1 or len(c.size) != 3:
        return 0
    if max(c.kernel_size) > MAX_IM2COL_KERNEL or c.in_channels * c.size[0] * c.size[1] > MAX_IM2COL_VALUES:
        return 0
    values = c.out_channels * math.prod(c.size) if c.transposed else c.in_channels * math.prod(c.out_size)
    return FP32 * math.prod(c.kernel_size) * values


def _round_up(channels: int, block: int) -> int:
    return math.ceil(channels / block) * block
