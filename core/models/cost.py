"""What a network costs, counted layer by layer without building it (and without torch): parameters and operations.

Both counts are exact and tested against the networks. Memory is estimated in :mod:`core.models.memory`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.config import ModelConfig
from core.models import architecture, convolutions_at, encoder_convolutions, keeps_concat_width, receives_input_image
from core.types import Size3

TRAINING_FACTOR = 3  # forward, gradient of the input, gradient of the weights
VNET_CONVOLUTIONS = 3  # at most, in one stage


@dataclass(frozen=True)
class Layer:
    """One convolution: kernel voxels, channels, the level of its output, and how many parameters belong to it in all
    (with bias, normalisation and activation). ``gathers``: multiply-adds per output voxel and channel pair."""

    in_channels: int
    out_channels: int
    kernel: int
    level: int
    extra: int = 0
    gathers: int | None = None

    @property
    def parameters(self) -> int:
        return self.in_channels * self.out_channels * self.kernel + self.out_channels + self.extra

    def multiply_adds(self, voxels: int) -> int:
        return voxels * self.in_channels * self.out_channels * (self.kernel if self.gathers is None else self.gathers)


@dataclass(frozen=True)
class Cost:
    """What a network has and what one forward pass of one sub-volume costs."""

    parameters: int
    forward_gflop: float

    @property
    def training_gflop(self) -> float:
        return TRAINING_FACTOR * self.forward_gflop


def cost(config: ModelConfig, in_channels: int, classes: int, size: Size3) -> Cost:
    """Count a network's cost for a sub-volume of ``size`` voxels.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    channels = config.channels or architecture(config.model).channels
    padded = padded_size(size, len(channels))
    layers = layers_of(config, in_channels, classes)
    voxels = [math.prod(n >> level for n in padded) for level in range(len(channels))]
    operations = sum(layer.multiply_adds(voxels[layer.level]) for layer in layers)
    return Cost(sum(layer.parameters for layer in layers), 2 * operations / 1e9)


def layers_of(config: ModelConfig, in_channels: int, classes: int) -> list[Layer]:
    """The convolutions of a network in the order in which an image passes through them.

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    channels = config.channels or architecture(config.model).channels
    return list(LAYERS[config.model](config, channels, in_channels, classes))


def padded_size(size: Size3, levels: int) -> Size3:
    """The size that a network of so many resolutions pads an image to."""
    divisor = 2 ** (levels - 1)
    i, j, k = (math.ceil(n / divisor) * divisor for n in size)
    return i, j, k


def _unet(config: ModelConfig, channels: tuple[int, ...], in_channels: int, classes: int) -> Iterator[Layer]:
    slope = 1 if config.activation == "prelu" else 0

    def unit(below: int, width: int, level: int) -> Layer:
        return Layer(below, width, 27, level, extra=(2 + slope) * width)

    before = config.widening == "before"
    below = in_channels
    for level, width in enumerate(channels):
        count = encoder_convolutions(config, level)
        inner = max(1, width // 2) if before else width
        widths = [in_channels if receives_input_image(config, level) else below, *[inner] * (count - 1), width]
        for n in range(count):
            yield unit(widths[n], widths[n + 1], level)
        below = width
    for level in reversed(range(len(channels) - 1)):
        width = channels[level]
        up = below if before else width
        yield Layer(below, up, 8, level, gathers=1)
        out = up + width if keeps_concat_width(config, level) else width
        for n in range(convolutions_at(config, level)):
            yield unit(up + width if n == 0 else out, out, level)
        below = out
    yield Layer(below, classes, 1, 0)


def _vnet(config: ModelConfig, channels: tuple[int, ...], in_channels: int, classes: int) -> Iterator[Layer]:
    def stage(first: int, width: int, level: int, convolutions: int) -> Iterator[Layer]:
        for n in range(convolutions):
            yield Layer(first if n == 0 else width, width, 125, level, extra=3 * width)  # norm (2), PReLU (1)

    if in_channels > 1:
        yield Layer(in_channels, channels[0], 1, 0)
    yield from stage(in_channels, channels[0], 0, 1)
    for level in range(1, len(channels)):
        yield Layer(channels[level - 1], channels[level], 8, level, extra=3 * channels[level])
        yield from stage(channels[level], channels[level], level, min(level + 1, VNET_CONVOLUTIONS))
    below = channels[-1]
    for level in reversed(range(len(channels) - 1)):
        width = channels[level]
        yield Layer(below, width, 8, level, extra=3 * width, gathers=1)
        yield from stage(2 * width, 2 * width, level, min(level + 1, VNET_CONVOLUTIONS))
        below = 2 * width
    yield Layer(below, classes, 1, 0)


LAYERS: dict[str, Callable[[ModelConfig, tuple[int, ...], int, int], Iterator[Layer]]] = {
    "unet3d": _unet, "vnet": _vnet,
}  # fmt: skip
