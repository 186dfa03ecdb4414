"""Convolutions that a CPU does not compute right in 16 bits, computed in fp32.

oneDNN, as of torch 2.13, returns uninitialised memory for some convolutions in bf16 - as output or as gradient -, or
writes beyond its buffers, where the image is small beside the kernel: shorter than the kernel along an axis, or with a
single voxel of output along an axis with a stride, or shorter than an even kernel with dilation; and with dilation and
a stride at once. So it is at the deepest levels of a network for a thin sub-volume or tile. Found by comparing outputs
and gradients with fp32 for thousands of random shapes, in two and three dimensions, with and without groups, dilation
and transposition; where the rule below is false none was wrong.

In fp32 one gradient writes beyond its buffer too: that of a 7x7x7 kernel with a stride of 2 for five voxels along i.
No network of the registry has it: the one with such a kernel, med3d, pads images to eight voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_TRANSPOSED = (F.conv_transpose2d, F.conv_transpose3d)
_CONVOLUTIONS = (F.conv2d, F.conv3d, *_TRANSPOSED)
_HALF = (torch.bfloat16, torch.float16)


def is_unsafe(
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
) -> bool:
    """Whether a convolution may be wrong in 16 bits on a CPU.

    Parameters
    ----------
    size : sequence of int. Voxels of the input along each axis.
    kernel_size, stride, padding, dilation : sequence of int. Of the convolution, along each axis.
    transposed : bool. Whether it is transposed; its gradient is a convolution with a stride.
    """
    if max(dilation) > 1 and max(stride) > 1:
        return True
    for voxels, kernel, step, border, spread in zip(size, kernel_size, stride, padding, dilation, strict=True):
        if kernel == 1:
            continue
        if voxels < kernel or (step > 1 and voxels <= kernel):
            return True
        if spread > 1 and kernel % 2 == 0 and voxels <= spread * (kernel - 1):
            return True
        if step > 1 and not transposed and voxels + 2 * border - spread * (kernel - 1) <= step:
            return True  # one voxel of output
    return False


class _Safe:
    """A layer that computes in fp32 where 16 bits may be wrong; its output has the type of the autocast."""

    def forward(self: Any, input: Tensor, *arguments: Any) -> Any:
        compute = super().forward  # type: ignore[misc]  # of the convolution that this is mixed into
        lower = _lower_type(input)
        if lower is None or not _is_unsafe_layer(self, input):
            return compute(input, *arguments)
        with torch.autocast("cpu", enabled=False):
            return compute(input.float(), *arguments).to(lower)

    def _get_name(self) -> str:
        return type(self).__name__.removeprefix("Safe")


class SafeConv2d(_Safe, nn.Conv2d):
    """As :class:`torch.nn.Conv2d`."""


class SafeConv3d(_Safe, nn.Conv3d):
    """As :class:`torch.nn.Conv3d`."""


class SafeConvTranspose2d(_Safe, nn.ConvTranspose2d):
    """As :class:`torch.nn.ConvTranspose2d`."""


class SafeConvTranspose3d(_Safe, nn.ConvTranspose3d):
    """As :class:`torch.nn.ConvTranspose3d`."""


_SAFE: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: SafeConv2d,
    nn.Conv3d: SafeConv3d,
    nn.ConvTranspose2d: SafeConvTranspose2d,
    nn.ConvTranspose3d: SafeConvTranspose3d,
}


def make_convolutions_safe(network: nn.Module) -> None:
    """Have the convolutions of a network compute in fp32 where 16 bits may be wrong; their parameters stay."""
    for module in network.modules():
        if safe := _SAFE.get(type(module)):
            module.__class__ = safe


class SafeConvolutions(TorchFunctionMode):
    """Does the same for convolutions that are called as functions, at the price of a Python call for each function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _CONVOLUTIONS or not _is_unsafe_call(func in _TRANSPOSED, *args, **kwargs):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            wide = {name: _wide(value) for name, value in kwargs.items()}
            output = func(*map(_wide, args), **wide)
        return output.to(torch.get_autocast_dtype("cpu"))


def in_half_on_a_cpu(image: Tensor) -> bool:
    """Whether a network computes in 16 bits on a CPU."""
    return _lower_type(image) is not None


def _lower_type(image: Tensor) -> torch.dtype | None:
    """The 16 bit type in which a CPU computes under autocast; ``None`` where it does not."""
    if image.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return None
    dtype = torch.get_autocast_dtype("cpu")
    return dtype if dtype in _HALF else None


def _is_unsafe_layer(layer: Any, image: Tensor) -> bool:
    axes = len(layer.kernel_size)
    padding = (0,) * axes if isinstance(layer.padding, str) else layer.padding  # "same" has a stride of 1
    size = image.shape[-axes:]
    return is_unsafe(size, layer.kernel_size, layer.stride, padding, layer.dilation, layer.transposed)


def _is_unsafe_call(
    transposed: bool, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
) -> bool:
    """:func:`is_unsafe` for the arguments of a function of torch."""
    names = ("stride", "padding", *(("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")))
    values = dict(zip(names, rest, strict=False)) | named
    axes = weight.ndim - 2
    size, kernel_size = tuple(input.shape[-axes:]), tuple(weight.shape[2:])
    stride, dilation = (_each(values.get(name, 1), axes) for name in ("stride", "dilation"))
    padding = values.get("padding", 0)
    if isinstance(padding, str):  # "same" has a stride of 1
        padding = 0
    return is_unsafe(size, kernel_size, stride, _each(padding, axes), dilation, transposed)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    """A number, or one for each axis, as one for each axis."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * axes if len(values) == 1 else values


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value
