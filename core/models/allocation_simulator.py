"""Simulates what torch allocates in a forward pass, and in the backward pass after it, on tensors without values.

As in torch, memory is kept while there are references to it: from variables, and from nodes of the autograd graph
that save it for the backward pass. A convolution holds for its duration the copies that its library makes: oneDNN
keeps channels side by side in blocks, and takes transposes for the gradient of bf16 kernels. All rules were found by
observing torch 2.13 on a CPU with bfloat16 instructions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from core.choices import Activation, LossName, NormLayer
from core.models.spec import Operators
from core.types import Size3, triple

FP32 = 4  # bytes of a value; weights, their gradients, and the loss are always fp32
BF16 = 2
INDEX = 8  # bytes of the index of a maximum, which pooling saves
LOSS_COPIES = {"dice": 2, "dice_ce": 3}  # copies of the probabilities, in addition to the saved ones
MAX_IM2COL_VALUES = 20_480  # of a slab (channels, i, j) up to which torch unfolds a single fp32 image on a CPU
FEW_CHANNELS, HALF_BLOCK, BLOCK = (
    3,
    8,
    16,
)  # channels that oneDNN does not pad, and multiples to which it pads its copies
# Heap of the process per byte in use at the peak, as measured. glibc keeps freed blocks (core.compute.allocator), but
# torch requests aligned ones, for which a freed block of the same size is often too small.
HEAP_PER_BYTE = {True: 1.62, False: 1.72}  # in training, and in inference
HEAP_BASE = 8e6  # bytes


@dataclass
class AllocationCounter:
    """Bytes in use now, and at the peak."""

    used: int = 0
    peak: int = 0

    def allocate(self, nbytes: int) -> None:
        """Count allocated bytes."""
        self.used += nbytes
        self.peak = max(self.peak, self.used)

    def free(self, nbytes: int) -> None:
        """Count freed bytes."""
        self.used -= nbytes

    def allocate_temporarily(self, *nbytes: int) -> None:
        """Count blocks that exist together, and are freed at once."""
        self.allocate(sum(nbytes))
        self.free(sum(nbytes))


@dataclass(eq=False)
class _Storage:
    """Memory of one or more tensors, and the number of references to it."""

    nbytes: int
    references: int = 1


@dataclass(eq=False)
class SimulatedTensor:
    """A tensor without values.

    Attributes
    ----------
    channels : int
    size : tuple of int. Voxels along (i, j, k).
    value_bytes : int. Bytes of one value.
    storage : _Storage. Its memory, which other tensors may share.
    requires_grad : bool. Whether the backward pass computes its gradient.
    grad : SimulatedTensor or None
    """

    channels: int
    size: Size3
    value_bytes: int
    storage: _Storage
    requires_grad: bool = True
    grad: SimulatedTensor | None = None


_Backward = Callable[[SimulatedTensor], tuple[SimulatedTensor, ...]]


@dataclass(eq=False)
class _Node:
    """A node of the autograd graph: from the gradient of ``output`` to those of ``inputs``, with its saved tensors."""

    output: SimulatedTensor
    inputs: tuple[SimulatedTensor, ...]
    saved: tuple[_Storage, ...]
    backward: _Backward


class AllocationSimulator(Operators[SimulatedTensor]):
    """Runs the description of a network and counts the bytes that torch would allocate.

    Parameters
    ----------
    size : tuple of int. Voxels of the image along (i, j, k).
    batch : int. Images in one pass.
    precision : str. "fp32" or "bf16" (mixed precision).
    device : str. "cpu" or "cuda".
    training : bool. Whether an autograd graph is recorded.
    channels_last : bool. Whether tensors are stored with the channels of a voxel side by side, which oneDNN reads
        without a copy.

    Attributes
    ----------
    memory : AllocationCounter. Bytes allocated now, and at the peak.
    """

    def __init__(
        self, size: Size3, batch: int, precision: str, device: str, *, training: bool, channels_last: bool = False
    ) -> None:
        self.size = size
        self.batch = batch
        self.device = device
        self.training = training
        self.channels_last = channels_last
        self.memory = AllocationCounter()
        self._value_bytes = FP32 if precision == "fp32" else BF16  # of the tensors that a convolution reads and writes
        self._autocast_device = "" if precision == "fp32" else device  # its rules of mixed precision hold
        self._graph: list[_Node] = []
        self._weight_casts: list[_Storage] = []
        self._weights_with_grad: set[int] = set()
        self._images: list[SimulatedTensor] = []
        self._convolutions = 0  # in this forward pass so far

    def peak_bytes(self) -> int:
        """The most bytes in use at once; on a CPU with the holes in the heap."""
        if self.device == "cuda":
            return self.memory.peak
        return int(HEAP_PER_BYTE[self.training] * self.memory.peak + HEAP_BASE)

    # --- passes -----------------------------------------------------------------------------------------------------

    def run_forward(
        self, in_channels: int, padded: Size3, network: Callable[[SimulatedTensor], SimulatedTensor]
    ) -> SimulatedTensor:
        """The logits of an image that the caller keeps, padded to a size before it enters the network."""
        self._convolutions = 0
        image = self._empty(in_channels, self.size, FP32)
        inside = image if padded == self.size else self._empty(in_channels, padded, FP32)
        image.requires_grad = inside.requires_grad = False
        if inside is image:
            self.retain(image)
        logits = network(inside)
        for storage in self._weight_casts:
            self._release(storage)
        self._weight_casts.clear()
        self._images.append(image)
        return logits

    def run_loss_and_backward(self, logits: SimulatedTensor, loss: LossName) -> None:
        """The loss of the logits and the backward pass; the image of the forward pass is freed."""
        values = logits.channels * math.prod(self.size) * self.batch
        # Probabilities (and their logarithms) in fp32, and the one-hot reference in one byte per value.
        saved = [FP32 * values] * (2 if loss == "dice_ce" else 1) + [values]
        for nbytes in saved:
            self.memory.allocate(nbytes)
        self.memory.allocate_temporarily(FP32 * values)
        self.release(logits)
        self.memory.allocate_temporarily(*[FP32 * values] * LOSS_COPIES[loss])
        logits.grad = self._empty_like(logits)
        for nbytes in saved:
            self.memory.free(nbytes)
        while self._graph:
            self._run_node(self._graph.pop())
        self.release(self._images.pop())

    def _run_node(self, node: _Node) -> None:
        gradient = node.output.grad
        assert gradient is not None, "nodes that use a tensor come before the node that made it"
        for x, grad in zip(node.inputs, node.backward(gradient), strict=True):
            if x.grad is None:
                x.grad = grad
                continue
            total = self._empty_like(x)
            self.release(x.grad, grad)
            x.grad = total
        node.output.grad = None
        self.release(gradient)
        for storage in node.saved:
            self._release(storage)

    # --- references -------------------------------------------------------------------------------------------------

    def retain(self, *tensors: SimulatedTensor) -> None:
        for x in tensors:
            x.storage.references += 1

    def release(self, *tensors: SimulatedTensor) -> None:
        for x in tensors:
            self._release(x.storage)

    def _release(self, storage: _Storage) -> None:
        storage.references -= 1
        if not storage.references:
            self.memory.free(storage.nbytes)

    def _empty(self, channels: int, size: Size3, value_bytes: int) -> SimulatedTensor:
        storage = _Storage(channels * math.prod(size) * self.batch * value_bytes)
        self.memory.allocate(storage.nbytes)
        return SimulatedTensor(channels, size, value_bytes, storage)

    def _empty_like(self, x: SimulatedTensor, value_bytes: int = 0) -> SimulatedTensor:
        return self._empty(x.channels, x.size, value_bytes or x.value_bytes)

    def _record(
        self,
        output: SimulatedTensor,
        inputs: tuple[SimulatedTensor, ...],
        saved: tuple[_Storage, ...],
        backward: _Backward,
    ) -> SimulatedTensor:
        if self.training:
            for storage in saved:
                storage.references += 1
            self._graph.append(_Node(output, inputs, saved, backward))
        return output

    # --- operators --------------------------------------------------------------------------------------------------

    def cast(self, x: SimulatedTensor, value_bytes: int) -> SimulatedTensor:
        """The tensor in another precision; the same tensor with one more reference where it has that precision."""
        if x.value_bytes == value_bytes:
            self.retain(x)
            return x
        y = self._empty_like(x, value_bytes)
        y.requires_grad = x.requires_grad
        if not x.requires_grad:
            return y
        return self._record(y, (x,), (), lambda grad: (self._empty_like(grad, x.value_bytes),))

    def convolve(
        self, x: SimulatedTensor, out_channels: int, kernel_size: int, stride: int = 1, transposed: bool = False
    ) -> SimulatedTensor:
        x = self.cast(x, self._value_bytes)
        size = triple([n * stride if transposed else n // stride for n in x.size])
        values = x.channels * out_channels * kernel_size**3
        weights = _Storage(values * self._value_bytes)
        saved: tuple[_Storage, ...] = (x.storage,)
        if self._value_bytes < FP32:
            self.memory.allocate(weights.nbytes)
            self._weight_casts.append(weights)
            saved = (x.storage, weights)
        number = self._convolutions = self._convolutions + 1
        columns = self._im2col_bytes(x, out_channels, kernel_size, size, transposed)
        source = self._reorder_bytes(
            x.channels, x.size, HALF_BLOCK if x.channels <= HALF_BLOCK else BLOCK, few=FEW_CHANNELS
        )
        target = self._reorder_bytes(
            out_channels, size, HALF_BLOCK if transposed and out_channels <= HALF_BLOCK else BLOCK
        )
        if columns:
            self.memory.allocate(columns)
        else:
            self.memory.allocate_temporarily(target, target if transposed else source, weights.nbytes)
            self.memory.allocate(target)
        y = self._empty(out_channels, size, self._value_bytes)
        if transposed and not columns:
            self.memory.allocate_temporarily(target)
        self.memory.free(columns or target)

        def backward(gradient: SimulatedTensor) -> tuple[SimulatedTensor, ...]:
            # A gradient that is part of a concatenated one is copied out of it.
            copied = 0 if gradient.storage.nbytes == y.storage.nbytes else y.storage.nbytes
            self.memory.allocate(copied)
            grads: tuple[SimulatedTensor, ...] = ()
            if x.requires_grad:
                self.memory.allocate_temporarily(*([columns] if columns else [source, target, weights.nbytes]))
                grads = (self._empty_like(x),)
            transposes = 2 if self._autocast_device == "cpu" and kernel_size > 1 and x.channels > HALF_BLOCK else 1
            sums = [weights.nbytes, FP32 * values * (1 if self._value_bytes == FP32 else 2)]
            self.memory.allocate_temporarily(*([columns] if columns else [source, target] * transposes), *sums)
            if number not in self._weights_with_grad:
                self._weights_with_grad.add(number)
                self.memory.allocate(FP32 * values)
            self.memory.free(copied)
            return grads

        self._record(y, (x,) if x.requires_grad else (), saved, backward)
        self.release(x)
        return y

    def normalise(self, x: SimulatedTensor, norm: NormLayer) -> SimulatedTensor:
        x = self.cast(x, FP32 if norm == "group" and self._autocast_device == "cuda" else x.value_bytes)
        y = self._record(self._empty_like(x), (x,), (x.storage,), lambda grad: (self._empty_like(grad),))
        self.release(x)
        return y

    def activate(self, x: SimulatedTensor, activation: Activation) -> SimulatedTensor:
        # The gradient of PReLU's slopes is computed voxel by voxel before it is summed.
        copies = 1 if activation == "prelu" else 0

        def backward(gradient: SimulatedTensor) -> tuple[SimulatedTensor, ...]:
            self.memory.allocate_temporarily(*[gradient.storage.nbytes] * (copies + 1))
            return (self._empty_like(gradient),)

        if activation == "prelu":
            x = self.cast(x, self._value_bytes)
            y = self._record(self._empty_like(x), (x,), (x.storage,), backward)
            self.release(x)
            return y
        y = SimulatedTensor(x.channels, x.size, x.value_bytes, x.storage)  # in place
        self.retain(y)
        return self._record(y, (x,), (y.storage,), backward)

    def max_pool(self, x: SimulatedTensor) -> SimulatedTensor:
        x = self.cast(x, FP32 if self._autocast_device == "cpu" else x.value_bytes)
        y = self._empty(x.channels, triple([n // 2 for n in x.size]), x.value_bytes)
        indices = self._empty_like(y, INDEX)
        self._record(y, (x,), (x.storage, indices.storage), lambda grad: (self._empty_like(x),))
        self.release(indices, x)
        return y

    def concatenate(self, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
        y = self._empty(a.channels + b.channels, a.size, max(a.value_bytes, b.value_bytes))

        def backward(gradient: SimulatedTensor) -> tuple[SimulatedTensor, ...]:
            # Two views of one tensor, which is kept until both are used.
            self.retain(gradient, gradient)
            return tuple(SimulatedTensor(x.channels, x.size, x.value_bytes, gradient.storage) for x in (a, b))

        return self._record(y, (a, b), (), backward)

    def add(self, a: SimulatedTensor, b: SimulatedTensor) -> SimulatedTensor:
        y = self._empty_like(a if a.channels >= b.channels else b, max(a.value_bytes, b.value_bytes))
        inputs = tuple(x for x in (a, b) if x.requires_grad)

        def backward(gradient: SimulatedTensor) -> tuple[SimulatedTensor, ...]:
            self.retain(*[gradient] * len(inputs))
            return tuple(SimulatedTensor(y.channels, y.size, y.value_bytes, gradient.storage) for _ in inputs)

        return self._record(y, inputs, (), backward)

    def _reorder_bytes(self, channels: int, size: Size3, block: int, few: int = 0) -> int:
        """Bytes of a convolution library's own copy of a tensor; oneDNN needs none of one with few channels."""
        if self.device != "cpu":
            block, few = 1, 0
        if channels <= few or self.channels_last:
            return 0
        return math.ceil(channels / block) * block * math.prod(size) * self.batch * self._value_bytes

    def _im2col_bytes(
        self, x: SimulatedTensor, out_channels: int, kernel_size: int, size: Size3, transposed: bool
    ) -> int:
        """Bytes of an unfolded image, where torch convolves by a matrix product: small single images in fp32."""
        slab = self.batch * x.channels * x.size[0] * x.size[1]
        unfolds = self.device == "cpu" and self._value_bytes == FP32 and self.batch == 1 and kernel_size <= 3
        if not unfolds or slab > MAX_IM2COL_VALUES:
            return 0
        values = out_channels * math.prod(x.size) if transposed else x.channels * math.prod(size)
        return FP32 * kernel_size**3 * values
