"""The V-Net without torch: its fixed options, and the forward pass in abstract operators.

The network itself is :mod:`core.models.vnet`.
"""

from __future__ import annotations

from core.config import ModelConfig
from core.models.spec import Architecture, Operators, T

KERNEL_SIZE = 5
MAX_CONVOLUTIONS = 3  # in one stage


def stage_convolutions(level: int) -> int:
    """Number of 5x5x5 convolutions in a stage at a level: 1, 2, 3, 3, ..."""
    return min(level + 1, MAX_CONVOLUTIONS)


def forward(ops: Operators[T], config: ModelConfig, image: T, classes: int) -> T:
    """The forward pass of :class:`core.models.vnet.VNet`, with the lifetimes of its variables."""
    channels = config.channels
    shortcut = image
    if image.channels > 1:
        shortcut = ops.convolve(image, channels[0], kernel_size=1)
    x = _residual_stage(ops, config, image, shortcut, channels[0], 0)
    ops.mark_stage("encoder", 0, x, reads_image=True)
    ops.release(image)
    if shortcut is not image:
        ops.release(shortcut)
    skips = []
    deepest = len(channels) - 1
    for level in range(1, len(channels)):
        skips.append(x)
        down = ops.conv_unit(x, channels[level], config.norm, "prelu", kernel_size=2, stride=2)
        x = _residual_stage(ops, config, down, down, channels[level], level)
        ops.release(down)
        ops.mark_stage("encoder" if level < deepest else "bottleneck", level, x)
    for level in reversed(range(deepest)):
        skip = skips.pop()
        up = ops.conv_unit(x, channels[level], config.norm, "prelu", kernel_size=2, stride=2, transposed=True)
        joined = ops.concatenate(up, skip)
        ops.release(up)
        y = _residual_stage(ops, config, joined, joined, 2 * channels[level], level)
        ops.release(joined, skip, x)
        x = y
        ops.mark_stage("decoder", level, x)
    logits = ops.convolve(x, classes, kernel_size=1)
    ops.mark_stage("logits", 0, logits)
    ops.release(x)
    return logits


def _residual_stage(ops: Operators[T], config: ModelConfig, x: T, shortcut: T, width: int, level: int) -> T:
    count = stage_convolutions(level)
    ops.retain(x)
    for number in range(count):
        last = number == count - 1
        y = ops.conv_unit(x, width, config.norm, None if last else "prelu", KERNEL_SIZE)
        ops.release(x)
        x = y
    total = ops.add(x, shortcut)
    ops.release(x)
    active = ops.activate(total, "prelu")
    ops.release(total)
    return active


VNET = Architecture(
    name="vnet",
    module="core.models.vnet",
    class_name="VNet",
    channels=(16, 32, 64, 128, 256),
    help="V-Net (Milletari et al. 2016); residual, 5x5x5 convolutions",
    forward=forward,
    fixed_options={
        "convolutions": (),
        "activation": "prelu",
        "downsampling": "stride",
        "widening": "after",
        "full_resolution": "level",
    },
)
