"""Replays what torch allocates: operators on tensors that are only sizes, forward and backward.

As in torch, a tensor lives as long as somebody refers to it: a variable, or a node of the backward pass that needs it.
The backward pass frees what the forward pass kept while gradients come and go. A convolution has for a moment the
copies that its library works on: oneDNN lays channels side by side in blocks, and takes transposes for the gradient of
bf16 kernels. All of it was found by watching torch 2.13 on a CPU with bfloat16 instructions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from core.types import Size3

FP32 = 4  # bytes of a value; weights, their gradients, and the loss are always fp32
INDEX = 8  # bytes of the place of a maximum, which pooling keeps
LOSS_COPIES = {"dice": 2, "dice_ce": 3}  # of the probabilities, on top of those that are kept
UNFOLDED = 20_480  # values in a slab (channels, i, j) up to which torch unfolds a single fp32 image on a CPU
FEW, HALF_BLOCK, BLOCK = 3, 8, 16  # channels that oneDNN takes as they are, and to which it fills up its copies
# Where the heap was found to end up, per byte in use at most. glibc keeps freed blocks (core.compute.allocator), but torch asks for
# aligned ones, for which a freed block of the same size is often too small.
HEAP_SHARE = {True: 1.62, False: 1.72}  # in training, and in passes without a backward pass
HEAP_BASE = 8e6  # bytes


@dataclass
class Memory:
    """Bytes in use now and at most."""

    used: int = 0
    most: int = 0

    def take(self, size: int) -> None:
        self.used += size
        self.most = max(self.most, self.used)

    def give(self, size: int) -> None:
        self.used -= size

    def pass_by(self, *sizes: int) -> None:
        """Blocks that are there together for a moment."""
        for size in sizes:
            self.take(size)
        for size in sizes:
            self.give(size)


@dataclass(eq=False)
class _Block:
    """Memory of a tensor, and how many refer to it."""

    size: int
    uses: int = 1


@dataclass(eq=False)
class Tensor:
    """Channels, size in voxels, bytes per value; tensors may share memory. ``constant``: it needs no gradient."""

    channels: int
    size: Size3
    width: int
    block: _Block
    constant: bool = False
    gradient: Tensor | None = None


@dataclass(eq=False)
class _Node:
    """A step of the backward pass: from the gradient of ``output`` to those of ``inputs``; what it refers to."""

    output: Tensor
    inputs: tuple[Tensor, ...]
    saved: tuple[_Block, ...]
    backward: Callable[[Tensor], tuple[Tensor, ...]]


@dataclass
class Replay:
    """Walks through a network. Its operators take and return tensors; whoever gets one drops it when done with it."""

    size: Size3
    batch: int
    precision: str
    device: str
    training: bool
    channels_last: bool = False  # as oneDNN likes it: it needs no copies
    memory: Memory = field(default_factory=Memory)
    tape: list[_Node] = field(default_factory=list)
    weight_casts: list[_Block] = field(default_factory=list)
    weight_gradients: set[int] = field(default_factory=set)
    images: list[Tensor] = field(default_factory=list)
    kernels: int = 0

    def peak(self) -> int:
        """The most that was in use at once; on a CPU with the holes in its heap."""
        if self.device == "cuda":
            return self.memory.most
        return int(HEAP_SHARE[self.training] * self.memory.most + HEAP_BASE)

    @property
    def width(self) -> int:
        """Bytes of a value that a convolution reads and writes."""
        return FP32 if self.precision == "fp32" else 2

    @property
    def mixed_on(self) -> str:
        """The device whose rules of mixed precision hold; empty for fp32."""
        return "" if self.precision == "fp32" else self.device

    def forward(self, in_channels: int, padded: Size3, network: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits of an image, which somebody goes on holding, once it is padded to a size."""
        self.kernels = 0
        image = self.new(in_channels, self.size, FP32)
        inside = image if padded == self.size else self.new(in_channels, padded, FP32)
        image.constant = inside.constant = True
        if inside is image:
            image.block.uses += 1
        logits = network(inside)
        for block in self.weight_casts:
            self.release(block)
        self.weight_casts.clear()
        self.images.append(image)
        return logits

    # --- memory -----------------------------------------------------------------------------------------------------

    def new(self, channels: int, size: Size3, width: int) -> Tensor:
        block = _Block(channels * math.prod(size) * self.batch * width)
        self.memory.take(block.size)
        return Tensor(channels, size, width, block)

    def like(self, x: Tensor, width: int = 0) -> Tensor:
        return self.new(x.channels, x.size, width or x.width)

    def drop(self, x: Tensor) -> None:
        self.release(x.block)

    def release(self, block: _Block) -> None:
        block.uses -= 1
        if not block.uses:
            self.memory.give(block.size)

    def record(
        self,
        output: Tensor,
        inputs: tuple[Tensor, ...],
        saved: tuple[_Block, ...],
        backward: Callable[[Tensor], tuple[Tensor, ...]],
    ) -> Tensor:
        if self.training:
            for block in saved:
                block.uses += 1
            self.tape.append(_Node(output, inputs, saved, backward))
        return output

    # --- operators --------------------------------------------------------------------------------------------------

    def cast(self, x: Tensor, width: int) -> Tensor:
        """The tensor in another precision; itself, with one more who refers to it, where it has that."""
        if x.width == width:
            x.block.uses += 1
            return x
        y = self.like(x, width)
        y.constant = x.constant
        return y if x.constant else self.record(y, (x,), (), lambda g: (self.like(g, x.width),))

    def convolve(self, given: Tensor, channels: int, kernel: int, stride: int = 1, transposed: bool = False) -> Tensor:
        x = self.cast(given, self.width)
        i, j, k = (n * stride if transposed else n // stride for n in x.size)
        size = (i, j, k)
        values = x.channels * channels * kernel**3
        weights = _Block(values * self.width)
        saved: tuple[_Block, ...] = (x.block,)
        if self.width < FP32:
            self.memory.take(weights.size)
            self.weight_casts.append(weights)
            saved = (x.block, weights)
        number = self.kernels = self.kernels + 1
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

        def backward(gradient: Tensor) -> tuple[Tensor, ...]:
            apart = 0 if gradient.block.size == y.block.size else y.block.size  # copied out of a joined gradient
            self.memory.take(apart)
            found: tuple[Tensor, ...] = ()
            if not x.constant:
                self.memory.pass_by(*([unfolded] if unfolded else [source, target, weights.size]))
                found = (self.like(x),)
            transposes = 2 if self.mixed_on == "cpu" and kernel > 1 and x.channels > HALF_BLOCK else 1
            sums = [weights.size, FP32 * values * (1 if self.width == FP32 else 2)]
            self.memory.pass_by(*([unfolded] if unfolded else [source, target] * transposes), *sums)
            if number not in self.weight_gradients:
                self.weight_gradients.add(number)
                self.memory.take(FP32 * values)
            self.memory.give(apart)
            return found

        self.record(y, () if x.constant else (x,), saved, backward)
        self.drop(x)
        return y

    def normalise(self, given: Tensor, norm: str) -> Tensor:
        x = self.cast(given, FP32 if norm == "group" and self.mixed_on == "cuda" else given.width)
        y = self.record(self.like(x), (x,), (x.block,), lambda g: (self.like(g),))
        self.drop(x)
        return y

    def activate(self, given: Tensor, activation: str) -> Tensor:
        def backward(gradient: Tensor) -> tuple[Tensor, ...]:
            self.memory.pass_by(*[gradient.block.size] * (copies + 1))
            return (self.like(gradient),)

        copies = 0
        if activation == "prelu":
            copies = 1  # the gradient of the slopes, voxel by voxel before it is summed
            x = self.cast(given, self.width)
            y = self.record(self.like(x), (x,), (x.block,), backward)
            self.drop(x)
            return y
        y = Tensor(given.channels, given.size, given.width, given.block)  # in place
        y.block.uses += 1
        return self.record(y, (given,), (y.block,), backward)

    def pool(self, given: Tensor) -> Tensor:
        x = self.cast(given, FP32 if self.mixed_on == "cpu" else given.width)
        i, j, k = x.size
        y = self.new(x.channels, (i // 2, j // 2, k // 2), x.width)
        places = self.like(y, INDEX)
        self.record(y, (x,), (x.block, places.block), lambda g: (self.like(x),))
        self.drop(places)
        self.drop(x)
        return y

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        """Concatenation; the gradients are two parts of one tensor, which lives until both are used."""
        y = self.new(a.channels + b.channels, a.size, max(a.width, b.width))

        def backward(gradient: Tensor) -> tuple[Tensor, ...]:
            gradient.block.uses += 2
            return tuple(Tensor(x.channels, x.size, x.width, gradient.block) for x in (a, b))

        return self.record(y, (a, b), (), backward)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        wide = a if a.channels >= b.channels else b
        y = self.like(wide, max(a.width, b.width))

        def backward(gradient: Tensor) -> tuple[Tensor, ...]:
            inputs = [x for x in (a, b) if not x.constant]
            gradient.block.uses += len(inputs)
            return tuple(Tensor(y.channels, y.size, y.width, gradient.block) for _ in inputs)

        return self.record(y, tuple(x for x in (a, b) if not x.constant), (), backward)

    def lose(self, logits: Tensor, loss: str) -> None:
        """Loss and backward pass; the image is let go."""
        values = logits.channels * math.prod(self.size) * self.batch
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
            assert gradient is not None, "whoever used a tensor comes before who made it"
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
        self.drop(self.images.pop())

    def _copy(self, channels: int, size: Size3, block: int, few: int = 0) -> int:
        """Bytes of a convolution library's own copy of a tensor; oneDNN needs none of one with few channels."""
        if self.device != "cpu":
            block, few = 1, 0
        if channels <= few or self.channels_last:
            return 0
        return math.ceil(channels / block) * block * math.prod(size) * self.batch * self.width

    def _unfolded(self, x: Tensor, channels: int, kernel: int, size: Size3, transposed: bool) -> int:
        """Bytes of an unfolded image, where torch computes a convolution that way: small single ones in fp32."""
        slab = self.batch * x.channels * x.size[0] * x.size[1]
        if self.device != "cpu" or self.width < FP32 or self.batch > 1 or kernel > 3 or slab > UNFOLDED:
            return 0
        return FP32 * kernel**3 * (channels * math.prod(x.size) if transposed else x.channels * math.prod(size))
