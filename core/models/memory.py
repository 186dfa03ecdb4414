"""How much memory a training step and a prediction take: every allocation is replayed layer by layer, without torch.

A network's forward pass is walked through with sizes instead of tensors. As in torch, a tensor lives as long as
somebody refers to it: a variable, or a node of the backward pass that needs it. The backward pass frees what the
forward pass kept while gradients come and go, and every convolution has the copies that its library works on. The most
that is alive at once is the estimate.

What each operator keeps and copies was found by watching torch 2.13 on a CPU with bfloat16 instructions, and the tests
compare the sums with the growth of resident memory there. On CUDA nothing was measured: the count is the same, the
rules of mixed precision are CUDA's, and cuDNN is taken to need the copies that oneDNN makes in fp32. The context of
CUDA, what a captured graph holds back, and what the process had before are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from core.config import LossConfig, ModelConfig, OptimConfig
from core.models import architecture, convolutions_at
from core.models.cost import VNET_CONVOLUTIONS, cost, padded_size

Size = tuple[int, int, int]

FP32 = 4  # bytes of a value; weights, gradients of weights, and the loss are always fp32
INDEX = 8  # bytes of the place of a maximum, which pooling keeps
STATE = {"sgd": 0, "adam": 8, "adamw": 8, "rmsprop": 4, "muon": 4}  # bytes of the optimizer per parameter
MUON_COPIES = 6  # of the largest kernel, while it is made orthogonal
LOSS_COPIES = {"dice": 2, "dice_ce": 3}  # of the probabilities, on top of those that are kept
UNFOLDED = 20_480  # values in a slab (channels, i, j) up to which torch unfolds a single fp32 image on a CPU
FEW, HALF_BLOCK, BLOCK = 3, 8, 16  # channels that oneDNN takes as they are, and to which it fills up its copies
MAPPED_FROM = 32 * 2**20  # bytes; glibc gives back larger blocks at once and keeps smaller ones for the process
HEAP_WASTE = 0.68  # bytes of holes for each byte of those
HEAP_IDLE = 0.33  # share of what it keeps unused while larger blocks are at their most


def training_bytes(
    model: ModelConfig,
    loss: LossConfig,
    optim: OptimConfig,
    *,
    in_channels: int,
    classes: int,
    size: Size,
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
    replay = _Replay(size, batch, precision, device, training=True)
    for _ in range(min(optim.accumulate, 2)):  # from the second on, there are gradients before
        replay.walk(model, in_channels, classes)
        replay.lose(loss.loss)
    if optim.optimizer == "muon":
        replay.memory.pass_by(*[FP32 * replay.largest_kernel] * MUON_COPIES)
    return parameters * (FP32 + state + (FP32 if optim.ema else 0)) + replay.memory.peak(device)


def inference_bytes(
    model: ModelConfig,
    *,
    in_channels: int,
    classes: int,
    size: Size,
    batch: int = 1,
    precision: str = "bf16",
    device: str = "cpu",
) -> int:
    """The peak of memory that one pass over ``size`` voxels takes on the device, without the weights.

    Nothing is kept for a backward pass: skip connections live, and what is around the widest convolution. The image and
    the logits in fp32 are counted. Parameters and errors are those of :func:`training_bytes`.
    """
    replay = _Replay(size, batch, precision, device, training=False)
    replay.channels_last = replay.mixed_on == "cpu" and model.norm != "instance"  # as core.inference lays images
    replay.walk(model, in_channels, classes)
    replay.cast(replay.logits, FP32)
    return replay.memory.peak(device)


@dataclass
class _Memory:
    """Bytes in use now and at most; blocks that the CPU's allocator keeps apart from those that it gives back."""

    kept: int = 0
    mapped: int = 0
    most_kept: int = 0
    most_mapped: int = 0
    most: int = 0

    def take(self, size: int) -> None:
        if size >= MAPPED_FROM:
            self.mapped += size
        else:
            self.kept += size
        self.most_kept, self.most_mapped = max(self.most_kept, self.kept), max(self.most_mapped, self.mapped)
        self.most = max(self.most, self.kept + self.mapped)

    def give(self, size: int) -> None:
        if size >= MAPPED_FROM:
            self.mapped -= size
        else:
            self.kept -= size

    def pass_by(self, *sizes: int) -> None:
        """Blocks that are there together for a moment."""
        for size in sizes:
            self.take(size)
        for size in sizes:
            self.give(size)

    def peak(self, device: str) -> int:
        """The most that was in use at once; on a CPU with what its allocator held on to meanwhile."""
        if device == "cuda":
            return self.most
        apart = self.most_kept + self.most_mapped
        small = self.most_kept / max(apart, 1)
        return int(self.most * (1 + HEAP_WASTE * small) + HEAP_IDLE * (apart - self.most))


@dataclass(eq=False)
class _Block:
    """Memory of a tensor, and how many refer to it."""

    size: int
    uses: int = 1


@dataclass(eq=False)
class _Tensor:
    """Channels, size in voxels, bytes per value; tensors may share memory. ``constant``: it needs no gradient."""

    channels: int
    size: Size
    width: int
    block: _Block
    constant: bool = False
    gradient: _Tensor | None = None


@dataclass(eq=False)
class _Node:
    """A step of the backward pass: from the gradient of ``output`` to those of ``inputs``; what it refers to."""

    output: _Tensor
    inputs: tuple[_Tensor, ...]
    saved: tuple[_Block, ...]
    backward: Callable[[_Tensor], tuple[_Tensor, ...]]


@dataclass
class _Replay:
    """Walks through a network. Its operators take and return tensors; whoever gets one drops it when done with it."""

    size: Size
    batch: int
    precision: str
    device: str
    training: bool
    channels_last: bool = False  # as oneDNN likes it: it needs no copies
    memory: _Memory = field(default_factory=_Memory)
    tape: list[_Node] = field(default_factory=list)
    weight_casts: list[_Block] = field(default_factory=list)
    weight_gradients: set[int] = field(default_factory=set)
    kernels: int = 0
    largest_kernel: int = 0

    @property
    def width(self) -> int:
        """Bytes of a value that a convolution reads and writes."""
        return FP32 if self.precision == "fp32" else 2

    @property
    def mixed_on(self) -> str:
        """The device whose rules of mixed precision hold; empty for fp32."""
        return "" if self.precision == "fp32" else self.device

    def walk(self, model: ModelConfig, in_channels: int, classes: int) -> None:
        """The forward pass; leaves the ``logits``."""
        self.kernels = 0
        channels = model.channels or architecture(model.model).channels
        self.image = image = self.new(in_channels, self.size, FP32)
        image.constant = True
        padded = image
        if padded_size(self.size, len(channels)) != self.size:
            padded = self.new(in_channels, padded_size(self.size, len(channels)), FP32)
            padded.constant = True
        else:
            image.block.uses += 1  # the caller's
        self.logits = WALKS[model.model](self, model, channels, padded, classes)
        for block in self.weight_casts:
            self.release(block)
        self.weight_casts.clear()

    # --- memory -----------------------------------------------------------------------------------------------------

    def new(self, channels: int, size: Size, width: int) -> _Tensor:
        block = _Block(channels * math.prod(size) * self.batch * width)
        self.memory.take(block.size)
        return _Tensor(channels, size, width, block)

    def like(self, x: _Tensor, width: int = 0) -> _Tensor:
        return self.new(x.channels, x.size, width or x.width)

    def drop(self, x: _Tensor) -> None:
        self.release(x.block)

    def release(self, block: _Block) -> None:
        block.uses -= 1
        if not block.uses:
            self.memory.give(block.size)

    def record(
        self,
        output: _Tensor,
        inputs: tuple[_Tensor, ...],
        saved: tuple[_Block, ...],
        backward: Callable[[_Tensor], tuple[_Tensor, ...]],
    ) -> _Tensor:
        if self.training:
            for block in saved:
                block.uses += 1
            self.tape.append(_Node(output, inputs, saved, backward))
        return output

    # --- operators --------------------------------------------------------------------------------------------------

    def cast(self, x: _Tensor, width: int) -> _Tensor:
        """The tensor in another precision; itself, with one more who refers to it, where it has that."""
        if x.width == width:
            x.block.uses += 1
            return x
        y = self.like(x, width)
        y.constant = x.constant
        return y if x.constant else self.record(y, (x,), (), lambda g: (self.like(g, x.width),))

    def convolve(
        self, given: _Tensor, channels: int, kernel: int, stride: int = 1, transposed: bool = False
    ) -> _Tensor:
        x = self.cast(given, self.width)
        factor = (lambda n: n * stride) if transposed else (lambda n: n // stride)
        size = (factor(x.size[0]), factor(x.size[1]), factor(x.size[2]))
        values = x.channels * channels * kernel**3
        weights = _Block(values * self.width)
        saved: tuple[_Block, ...] = (x.block,)
        if self.width < FP32:
            self.memory.take(weights.size)
            self.weight_casts.append(weights)
            saved = (x.block, weights)
        number = self.kernels = self.kernels + 1
        self.largest_kernel = max(self.largest_kernel, values)
        unfolded = self._unfolded(x, channels, kernel, size, transposed)
        source = self._copy(x.channels, x.size, HALF_BLOCK if x.channels <= HALF_BLOCK else BLOCK, few=FEW)
        target = self._copy(channels, size, HALF_BLOCK if transposed and channels <= HALF_BLOCK else BLOCK)
        if unfolded:
            self.memory.take(unfolded)
        else:
            self.memory.pass_by(target, target if transposed else source, weights.size)
            self.memory.take(target)
        y = self.new(channels, size, self.width)
        if transposed and not unfolded:
            self.memory.pass_by(target)
        self.memory.give(unfolded or target)

        def backward(gradient: _Tensor) -> tuple[_Tensor, ...]:
            whole = gradient.block.size if gradient.block.size == y.block.size else y.block.size
            apart = whole if gradient.block.size != y.block.size else 0  # part of a joined gradient: copied out of it
            self.memory.take(apart)
            found: tuple[_Tensor, ...] = ()
            if not x.constant:
                self.memory.pass_by(*([unfolded] if unfolded else [source, target, weights.size]))
                found = (self.like(x),)
            transposes = 2 if self.mixed_on == "cpu" and kernel > 1 and x.channels > HALF_BLOCK else 1
            sums = [weights.size, FP32 * values] if self.width == FP32 else [weights.size, 2 * FP32 * values]
            self.memory.pass_by(*([unfolded] if unfolded else [source, target] * transposes), *sums)
            if number not in self.weight_gradients:
                self.weight_gradients.add(number)
                self.memory.take(FP32 * values)
            self.memory.give(apart)
            return found

        self.record(y, () if x.constant else (x,), saved, backward)
        self.drop(x)
        return y

    def normalise(self, given: _Tensor, norm: str) -> _Tensor:
        x = self.cast(given, FP32 if norm == "group" and self.mixed_on == "cuda" else given.width)
        y = self.record(self.like(x), (x,), (x.block,), lambda g: (self.like(g),))
        self.drop(x)
        return y

    def activate(self, given: _Tensor, activation: str, norm: str) -> _Tensor:
        def backward(gradient: _Tensor) -> tuple[_Tensor, ...]:
            self.memory.pass_by(*[gradient.block.size] * (copies + 1))
            return (self.like(gradient),)

        if activation == "prelu":
            copies = 1  # the gradient of the slopes, voxel by voxel before it is summed
            x = self.cast(given, self.width)
            y = self.record(self.like(x), (x,), (x.block,), backward)
            self.drop(x)
            return y
        copies = 2 if norm == "instance" else 0  # it hands out a view, and what changes a view in place copies
        y = _Tensor(given.channels, given.size, given.width, given.block)  # in place
        y.block.uses += 1
        return self.record(y, (given,), (y.block,), backward)

    def pool(self, given: _Tensor) -> _Tensor:
        x = self.cast(given, FP32 if self.mixed_on == "cpu" else given.width)
        i, j, k = x.size
        y = self.new(x.channels, (i // 2, j // 2, k // 2), x.width)
        places = self.like(y, INDEX)
        self.record(y, (x,), (x.block, places.block), lambda g: (self.like(x),))
        self.drop(places)
        self.drop(x)
        return y

    def join(self, a: _Tensor, b: _Tensor) -> _Tensor:
        """Concatenation; the gradients are two parts of one tensor, which lives until both are used."""
        y = self.new(a.channels + b.channels, a.size, max(a.width, b.width))

        def backward(gradient: _Tensor) -> tuple[_Tensor, ...]:
            gradient.block.uses += 2
            return tuple(_Tensor(x.channels, x.size, x.width, gradient.block) for x in (a, b))

        return self.record(y, (a, b), (), backward)

    def add(self, a: _Tensor, b: _Tensor) -> _Tensor:
        wide = a if a.channels >= b.channels else b
        y = self.like(wide, max(a.width, b.width))

        def backward(gradient: _Tensor) -> tuple[_Tensor, ...]:
            inputs = [x for x in (a, b) if not x.constant]
            gradient.block.uses += len(inputs)
            return tuple(_Tensor(y.channels, y.size, y.width, gradient.block) for _ in inputs)

        return self.record(y, tuple(x for x in (a, b) if not x.constant), (), backward)

    def lose(self, loss: str) -> None:
        """Loss and backward pass, from the logits that the forward pass left."""
        logits, values = self.logits, self.logits.channels * math.prod(self.size) * self.batch
        kept = [FP32 * values] * (2 if loss == "dice_ce" else 1) + [values]  # probabilities, their logarithms, one-hot
        for size in kept:
            self.memory.take(size)
        self.memory.pass_by(FP32 * values)
        self.drop(logits)
        self.memory.pass_by(*[FP32 * values] * LOSS_COPIES[loss])
        logits.gradient = self.like(logits)
        for size in kept:
            self.memory.give(size)
        while self.tape:
            node = self.tape.pop()
            gradient = node.output.gradient
            if gradient is None:
                raise AssertionError("every tensor has its gradient before its node is reached")
            for x, found in zip(node.inputs, node.backward(gradient), strict=True):
                if x.gradient is None:
                    x.gradient = found
                    continue
                both = self.like(x)
                self.drop(x.gradient)
                self.drop(found)
                x.gradient = both
            node.output.gradient = None
            self.drop(gradient)
            for block in node.saved:
                self.release(block)
        self.drop(self.image)

    def _copy(self, channels: int, size: Size, block: int, few: int = 0) -> int:
        """Bytes of a convolution library's own copy of a tensor; oneDNN needs none of one with few channels."""
        if self.device != "cpu":
            block, few = 1, 0
        if channels <= few or self.channels_last:
            return 0
        return math.ceil(channels / block) * block * math.prod(size) * self.batch * self.width

    def _unfolded(self, x: _Tensor, channels: int, kernel: int, size: Size, transposed: bool) -> int:
        """Bytes of an unfolded image, where torch computes a convolution that way: small single ones in fp32."""
        slab = self.batch * x.channels * x.size[0] * x.size[1]
        if self.device != "cpu" or self.width < FP32 or self.batch > 1 or kernel > 3 or slab > UNFOLDED:
            return 0
        return FP32 * kernel**3 * (channels * math.prod(x.size) if transposed else x.channels * math.prod(size))


def _walk_unet(
    replay: _Replay, config: ModelConfig, channels: tuple[int, ...], image: _Tensor, classes: int
) -> _Tensor:
    def unit(x: _Tensor, width: int, stride: int) -> _Tensor:
        convolved = replay.convolve(x, width, 3, stride)
        normed = replay.normalise(convolved, config.norm)
        replay.drop(convolved)
        active = replay.activate(normed, config.activation, config.norm)
        replay.drop(normed)
        return active

    def units(x: _Tensor, widths: list[int], stride: int = 1) -> _Tensor:
        """Drops ``x``."""
        for number, width in enumerate(widths):
            y = unit(x, width, stride if number == 0 else 1)
            replay.drop(x)
            x = y
        return x

    before = config.widening == "before"
    x, skips = image, []
    for level, width in enumerate(channels):
        strided = level > 0 and config.downsampling == "stride"
        x.block.uses += 1  # the caller's, while the level is at work
        inside = replay.pool(x) if level > 0 and not strided else x
        if inside is not x:
            replay.drop(x)
        count = convolutions_at(config, level)
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
        y = units(joined, [width] * convolutions_at(config, level))
        for gone in (joined, skip, x):
            replay.drop(gone)
        x = y
    logits = replay.convolve(x, classes, 1)
    replay.drop(x)
    return logits


def _walk_vnet(
    replay: _Replay, config: ModelConfig, channels: tuple[int, ...], image: _Tensor, classes: int
) -> _Tensor:
    def then(x: _Tensor, operator: Callable[[_Tensor], _Tensor]) -> _Tensor:
        y = operator(x)
        replay.drop(x)
        return y

    def normed(x: _Tensor) -> _Tensor:
        return replay.normalise(x, config.norm)

    def active(x: _Tensor) -> _Tensor:
        return replay.activate(x, "prelu", config.norm)

    def stage(x: _Tensor, shortcut: _Tensor, width: int, level: int) -> _Tensor:
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


Walk = Callable[[_Replay, ModelConfig, tuple[int, ...], _Tensor, int], _Tensor]
WALKS: dict[str, Walk] = {"unet3d": _walk_unet, "vnet": _walk_vnet}
