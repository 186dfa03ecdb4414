"""How much memory a training step and a prediction take: every allocation is replayed layer by layer, without torch.

A network's forward pass is walked through with sizes instead of tensors, and the backward pass after it; the most that
is alive at once is the estimate (:mod:`core.models.allocation_simulator`). The tests compare it with the growth of resident memory on
a CPU, in a process that was started as trainers and the jobs of pages are (:func:`core.compute.allocator.malloc_environment`): a
training step takes within 20 % of it, a prediction within 30 %, mostly less. Elsewhere the holes in the heap of the C
library are a matter of luck, and a prediction took up to 28 % more. On CUDA nothing was measured: the count is the
same, the rules of mixed precision are CUDA's, and cuDNN is taken to need the copies that oneDNN makes in fp32. The
context of CUDA, what a captured graph holds back, the deterministic form of pooling, augmentation, and what the process
had before are not counted.
"""

from __future__ import annotations

from collections.abc import Callable

from core.config import LossConfig, ModelConfig, OptimConfig
from core.models import architecture, convolutions_at, encoder_convolutions, keeps_concat_width, receives_input_image
from core.models.allocation_simulator import FP32, Replay, Tensor
from core.models.cost import VNET_CONVOLUTIONS, cost, padded_size
from core.types import Size3

STATE = {"sgd": 0, "adam": 8, "adamw": 8, "rmsprop": 4, "muon": 4}  # bytes of the optimizer per parameter
MUON_COPIES = 4  # of all kernels, while they are made orthogonal


def training_bytes(
    model: ModelConfig,
    loss: LossConfig,
    optim: OptimConfig,
    *,
    in_channels: int,
    classes: int,
    size: Size3,
    batch: int = 1,
    precision: str = "bf16",
    device: str = "cpu",
) -> int:
    """The peak of memory that a training step takes on the device, with weights and optimizer.

    Parameters
    ----------
    model, loss, optim : of the configuration.
    size : of a sub-volume in voxels.
    batch : sub-volumes in a forward pass.
    precision : "fp32" or "bf16" (mixed precision).
    device : "cpu" or "cuda".

    Raises
    ------
    ConfigError
        If the architecture is unknown.
    """
    parameters = cost(model, in_channels, classes, size).parameters
    state = STATE[optim.optimizer] + (FP32 if optim.optimizer in ("sgd", "rmsprop") and optim.momentum else 0)
    replay = Replay(size, batch, precision, device, training=True)
    for _ in range(min(optim.accumulate, 2)):  # from the second on, there are gradients before
        replay.lose(_forward(replay, model, in_channels, classes), loss.loss)
    if optim.optimizer == "muon":
        replay.memory.pass_by(*[FP32 * parameters] * MUON_COPIES)
    return parameters * (FP32 + state + (FP32 if optim.ema else 0)) + replay.peak()


def inference_bytes(
    model: ModelConfig,
    *,
    in_channels: int,
    classes: int,
    size: Size3,
    batch: int = 1,
    precision: str = "bf16",
    device: str = "cpu",
) -> int:
    """The peak of memory that one pass over ``size`` voxels takes on the device, without the weights.

    Nothing is kept for a backward pass: skip connections live, and what is around the widest convolution. The image and
    the logits in fp32 are counted. Parameters and errors are those of :func:`training_bytes`.
    """
    replay = Replay(size, batch, precision, device, training=False)
    replay.channels_last = (
        replay.mixed_on == "cpu" and model.norm != "instance"
    )  # as core.inference.sliding_window lays images
    replay.cast(_forward(replay, model, in_channels, classes), FP32)
    return replay.peak()


def _forward(replay: Replay, model: ModelConfig, in_channels: int, classes: int) -> Tensor:
    """The forward pass of the configured network; gives its logits."""
    channels = model.channels or architecture(model.model).channels
    padded = padded_size(replay.size, len(channels))
    return replay.forward(
        in_channels, padded, lambda image: WALKS[model.model](replay, model, channels, image, classes)
    )


def _walk_unet(replay: Replay, config: ModelConfig, channels: tuple[int, ...], image: Tensor, classes: int) -> Tensor:
    def unit(x: Tensor, width: int, stride: int) -> Tensor:
        convolved = replay.convolve(x, width, 3, stride)
        normed = replay.normalise(convolved, config.norm)
        replay.drop(convolved)
        active = replay.activate(normed, config.activation)
        replay.drop(normed)
        return active

    def units(x: Tensor, widths: list[int], stride: int = 1) -> Tensor:
        """Drops ``x``."""
        for number, width in enumerate(widths):
            y = unit(x, width, stride if number == 0 else 1)
            replay.drop(x)
            x = y
        return x

    before = config.widening == "before"
    x, skips = image, []
    image.block.uses += 1  # the network's, to its end
    for level, width in enumerate(channels):
        strided = level > 0 and config.downsampling == "stride"
        given = image if receives_input_image(config, level) else x
        given.block.uses += 1  # the caller's, while the level is at work
        inside = replay.pool(given) if level > 0 and not strided else given
        if inside is not given:
            replay.drop(given)
        count = encoder_convolutions(config, level)
        inner = max(1, width // 2) if before else width
        y = units(inside, [inner] * (count - 1) + [width], 2 if strided else 1)
        if level < len(channels) - 1:
            skips.append(y)
            y.block.uses += 1
        replay.drop(x)
        x = y
    for level in reversed(range(len(channels) - 1)):
        skip, width = skips.pop(), channels[level]
        up = replay.convolve(x, x.channels if before else width, 2, 2, transposed=True)
        joined = replay.join(up, skip)
        replay.drop(up)
        joined.block.uses += 1  # the caller's
        out = joined.channels if keeps_concat_width(config, level) else width
        y = units(joined, [out] * convolutions_at(config, level))
        for gone in (joined, skip, x):
            replay.drop(gone)
        x = y
    logits = replay.convolve(x, classes, 1)
    replay.drop(x)
    replay.drop(image)
    return logits


def _walk_vnet(replay: Replay, config: ModelConfig, channels: tuple[int, ...], image: Tensor, classes: int) -> Tensor:
    def then(x: Tensor, operator: Callable[[Tensor], Tensor]) -> Tensor:
        y = operator(x)
        replay.drop(x)
        return y

    def normed(x: Tensor) -> Tensor:
        return replay.normalise(x, config.norm)

    def active(x: Tensor) -> Tensor:
        return replay.activate(x, "prelu")

    def stage(x: Tensor, shortcut: Tensor, width: int, level: int) -> Tensor:
        count = min(level + 1, VNET_CONVOLUTIONS)
        y = x
        y.block.uses += 1
        for number in range(count):
            unit = then(replay.convolve(y, width, 5), normed)
            if number < count - 1:
                unit = then(unit, active)
            replay.drop(y)
            y = unit
        return then(then(y, lambda t: replay.add(t, shortcut)), active)

    shortcut = image
    if image.channels > 1:
        shortcut = replay.convolve(image, channels[0], 1)
    x = stage(image, shortcut, channels[0], 0)
    replay.drop(image)
    if shortcut is not image:
        replay.drop(shortcut)
    skips = []
    for level in range(1, len(channels)):
        skips.append(x)
        down = replay.convolve(x, channels[level], 2, 2)
        y = then(then(down, normed), active)
        x = stage(y, y, channels[level], level)
        replay.drop(y)
    for level in reversed(range(len(channels) - 1)):
        skip, width = skips.pop(), channels[level]
        up = then(then(replay.convolve(x, width, 2, 2, transposed=True), normed), active)
        joined = replay.join(up, skip)
        replay.drop(up)
        y = stage(joined, joined, 2 * width, level)
        for gone in (joined, skip, x):
            replay.drop(gone)
        x = y
    logits = replay.convolve(x, classes, 1)
    replay.drop(x)
    return logits


Walk = Callable[[Replay, ModelConfig, tuple[int, ...], Tensor, int], Tensor]
WALKS: dict[str, Walk] = {"unet3d": _walk_unet, "vnet": _walk_vnet}
