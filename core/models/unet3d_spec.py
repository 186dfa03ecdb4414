"""The 3D U-Net without torch: the channels of every level, and the forward pass in abstract operators.

The network itself is :mod:`core.models.unet3d`, which builds its levels from the specifications here.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.config import ModelConfig
from core.models.spec import Architecture, Operators, T

DEFAULT_CONVOLUTIONS = 2  # per level in encoder and decoder (Cicek et al.)


@dataclass(frozen=True)
class EncoderLevelSpec:
    """One encoder level, or the bottleneck.

    Attributes
    ----------
    reads_image : bool. Whether the level reads the image instead of the output of the level above.
    pooled : bool. Whether the level starts with 2x2x2 max pooling.
    stride : int. Stride of the first convolution.
    in_channels : int
    out_channels : tuple of int. Output channels of each 3x3x3 convolution.
    """

    reads_image: bool
    pooled: bool
    stride: int
    in_channels: int
    out_channels: tuple[int, ...]


@dataclass(frozen=True)
class DecoderLevelSpec:
    """One decoder level: transposed convolution, concatenation with the skip connection, 3x3x3 convolutions.

    Attributes
    ----------
    in_channels, up_channels : int. Channels of the level below, and after the transposed convolution.
    skip_channels, out_channels : int. Channels of the skip connection, and of every 3x3x3 convolution.
    convolutions : int. Number of 3x3x3 convolutions.
    """

    in_channels: int
    up_channels: int
    skip_channels: int
    out_channels: int
    convolutions: int


def encoder_levels(config: ModelConfig, in_channels: int) -> list[EncoderLevelSpec]:
    """The encoder levels, full resolution first; the last is the bottleneck. ``config`` is resolved."""
    specs = []
    for level, width in enumerate(config.channels):
        reads_image = level == 0 or (level == 1 and _half_resolution_reads_image(config))
        # A level below 0 that reads the image needs one more convolution to bring it to half resolution.
        count = _convolutions_at(config, level) + (1 if reads_image and level else 0)
        inner = max(1, width // 2) if config.widening == "before" else width
        specs.append(
            EncoderLevelSpec(
                reads_image=reads_image,
                pooled=level > 0 and config.downsampling == "pool",
                stride=2 if level > 0 and config.downsampling == "stride" else 1,
                in_channels=in_channels if reads_image else config.channels[level - 1],
                out_channels=(*[inner] * (count - 1), width),
            )
        )
    return specs


def decoder_levels(config: ModelConfig) -> list[DecoderLevelSpec]:
    """The decoder levels, deepest first. ``config`` is resolved."""
    specs = []
    below = config.channels[-1]
    for level in reversed(range(len(config.channels) - 1)):
        skip = config.channels[level]
        up = below if config.widening == "before" else skip
        keeps_width = level == 0 and _half_resolution_reads_image(config)
        out = up + skip if keeps_width else skip
        specs.append(DecoderLevelSpec(below, up, skip, out, _convolutions_at(config, level)))
        below = out
    return specs


def forward(ops: Operators[T], config: ModelConfig, image: T, classes: int) -> T:
    """The forward pass of :class:`core.models.unet3d.UNet3D`, with the lifetimes of its variables."""
    x, skips = image, []
    ops.retain(image)  # by the variable of forward(), to its end
    encoder = encoder_levels(config, image.channels)
    deepest = len(encoder) - 1
    for level, spec in enumerate(encoder):
        source = image if spec.reads_image else x
        ops.retain(source)  # by the caller's argument, until the level returns
        y = source
        if spec.pooled:
            y = ops.max_pool(source)
            ops.release(source)
        for n, width in enumerate(spec.out_channels):
            y = _unit(ops, y, width, config, spec.stride if n == 0 else 1)
        if level < deepest:
            skips.append(y)
            ops.retain(y)
        ops.release(x)
        x = y
        ops.mark_stage("encoder" if level < deepest else "bottleneck", level, x, spec.reads_image)
    for n, decode in enumerate(decoder_levels(config)):
        skip = skips.pop()
        up = ops.convolve(x, decode.up_channels, kernel_size=2, stride=2, transposed=True)
        joined = ops.concatenate(up, skip)
        ops.release(up)
        ops.retain(joined)  # by the caller's argument, until the convolutions return
        y = joined
        for _ in range(decode.convolutions):
            y = _unit(ops, y, decode.out_channels, config)
        ops.release(joined, skip, x)
        x = y
        ops.mark_stage("decoder", deepest - 1 - n, x)
    logits = ops.convolve(x, classes, kernel_size=1)
    ops.mark_stage("logits", 0, logits)
    ops.release(x, image)
    return logits


def _unit(ops: Operators[T], x: T, width: int, config: ModelConfig, stride: int = 1) -> T:
    """A convolution unit in a Sequential, which drops its input once the unit returns."""
    y = ops.conv_unit(x, width, config.norm, config.activation, stride=stride)
    ops.release(x)
    return y


def _convolutions_at(config: ModelConfig, level: int) -> int:
    if not config.convolutions:
        return DEFAULT_CONVOLUTIONS
    return config.convolutions[min(level, len(config.convolutions) - 1)]


def _half_resolution_reads_image(config: ModelConfig) -> bool:
    return config.full_resolution == "detail"


UNET3D = Architecture(
    name="unet3d",
    module="core.models.unet3d",
    class_name="UNet3D",
    channels=(64, 128, 256, 512),
    help="3D U-Net (Cicek et al. 2016); 3x3x3 convolutions",
    forward=forward,
)
