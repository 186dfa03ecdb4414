"""Follows what torch code allocates and computes, on tensors without values.

Under :func:`fake_tensors` every tensor has a shape, a type and strides, but no memory: a training step of any size
takes as long as its operators take to launch. An :class:`AllocationTracer` sees each operator of the forward pass, the
backward pass and the optimizer, and follows every storage from the operator that makes it to the release of its last
reference, as torch's allocator would. Operations are counted by torch's own registry
(:mod:`torch.utils.flop_counter`), the temporary memory of convolutions by
:mod:`core.compute.convolution_workspace`.

Fake tensors are on the CPU, whatever the device that is asked about, since torch cannot make fake CUDA tensors without
a CUDA driver; :class:`CudaAutocast` applies CUDA's rules of mixed precision to them.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from torch.utils.flop_counter import flop_registry

from core.compute.convolution_workspace import TracedConvolution, backward_bytes, forward_bytes

MAX_REAL_VALUES = 65_536  # of a tensor that keeps its values while a network is built; larger ones have none
# Heap of a CPU process per byte in use at the peak, as measured. glibc keeps freed blocks (core.compute.allocator), but
# torch requests aligned ones, for which a freed block of the same size is often too small.
HEAP_PER_BYTE = {"fp32": 1.55, "bf16": 1.75, "fp16": 1.75}  # in training; more copies with half of the bytes
HEAP_PER_BYTE_OF_INFERENCE = 1.5
HEAP_BASE = 8_000_000  # bytes

aten = torch.ops.aten


@contextlib.contextmanager
def fake_tensors() -> Iterator[None]:
    """A context in which new tensors have no memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        yield


class AllocationTracer(TorchDispatchMode):
    """Counts the bytes of the storages that are alive, and the operations, while the context lasts.

    Parameters
    ----------
    device : str. "cpu" or "cuda": whose libraries' temporary memory is counted.

    Attributes
    ----------
    used : int. Bytes of the storages that are alive.
    peak : int. The most bytes in use at once, with the temporary memory of operators.
    operations : int. Floating-point operations; a multiply-add is two.
    convolutions : list of TracedConvolution. Convolutions of forward passes, in order.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.used = self.peak = self.operations = 0
        self.convolutions: list[TracedConvolution] = []
        self._alive: dict[int, weakref.ref[Any]] = {}

    def follow(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of tensors that were made before."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, nbytes = storage._cdata, storage.nbytes()
            if key in self._alive:
                continue
            self._alive[key] = weakref.ref(storage, self._on_release(key, nbytes))
            self.used += nbytes
        self.peak = max(self.peak, self.used)

    def _on_release(self, key: int, nbytes: int) -> Any:
        def release(_: object) -> None:
            self.used -= nbytes
            del self._alive[key]

        return release

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default:  # a value that decides about the work; fake tensors have none
            return 0
        kwargs = kwargs or {}
        before = self.used
        result = func(*args, **kwargs)
        self.follow(t for t in tree_iter(result) if isinstance(t, Tensor))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.operations += count(*args, **kwargs, out_val=result)
        if func is aten.convolution.default:
            convolution = TracedConvolution.of_forward(args, result)
            self.convolutions.append(convolution)
            self.peak = max(self.peak, before + forward_bytes(convolution, self.device))
        elif func is aten.convolution_backward.default:
            convolution = TracedConvolution.of_backward(args)
            self.peak = max(self.peak, before + backward_bytes(convolution, self.device, args[10][0]))
        return result


def heap_bytes(peak: int, persistent: int, per_byte: float) -> int:
    """Growth of the resident memory of a CPU process with a traced peak.

    Parameters
    ----------
    peak : int. Most bytes in use at once.
    persistent : int. Bytes of them that are in use all the time: weights, state of the optimizer.
    per_byte : float. Heap per byte in use: :data:`HEAP_PER_BYTE`, :data:`HEAP_PER_BYTE_OF_INFERENCE`.
    """
    return int(persistent + per_byte * (peak - persistent) + HEAP_BASE)


# --- networks without weights -----------------------------------------------------------------------------------------


class _LargeTensorsOnMeta(TorchDispatchMode):
    """Makes large tensors on the meta device; small ones keep their values, which some networks read while they are
    built."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if any(a.name == "device" for a in func._schema.arguments) and not any(
            isinstance(a, Tensor) for a in tree_iter((args, kwargs))
        ):
            on_meta = func(*args, **{**kwargs, "device": torch.device("meta")})
            if isinstance(on_meta, Tensor) and on_meta.numel() > MAX_REAL_VALUES:
                return on_meta
        return func(*args, **kwargs)


@contextlib.contextmanager
def without_large_tensors() -> Iterator[None]:
    """A context to build a network in without the memory of its weights; random number generators are left as they
    were."""
    with torch.random.fork_rng(devices=[]), _LargeTensorsOnMeta():
        yield


def to_fake(network: nn.Module) -> nn.Module:
    """Replace weights and buffers by fake tensors, in place; for use under :func:`fake_tensors`."""
    with torch.no_grad():
        return network._apply(lambda t: torch.empty(t.shape, dtype=t.dtype, device="cpu"))


# --- mixed precision of CUDA ------------------------------------------------------------------------------------------

_IN_LOW_PRECISION = {
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
    nn.functional.linear, torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.addbmm, torch.prelu,
    nn.functional.scaled_dot_product_attention, Tensor.matmul, Tensor.__matmul__, Tensor.bmm, Tensor.mm,
}  # fmt: skip
_IN_FP32 = {
    nn.functional.softmax, nn.functional.log_softmax, torch.softmax, torch.log_softmax, Tensor.softmax,
    nn.functional.layer_norm, nn.functional.group_norm, torch.group_norm, torch.layer_norm, torch.exp, torch.log,
    torch.pow, Tensor.pow, Tensor.exp, Tensor.log, Tensor.sum, torch.sum, Tensor.norm, torch.cumsum,
    nn.functional.softplus, nn.functional.interpolate, nn.functional.grid_sample,
}  # fmt: skip


class CudaAutocast(TorchFunctionMode):
    """CUDA's rules of mixed precision, for tensors on another device: torch's documented lists of the operators that
    autocast runs in the lower precision and in fp32 (https://docs.pytorch.org/docs/stable/amp.html).

    Parameters
    ----------
    dtype : torch.dtype. The lower precision.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _IN_LOW_PRECISION:
            args, kwargs = tree_map(self._lower, (args, kwargs or {}))
        elif func in _IN_FP32:
            args, kwargs = tree_map(_to_fp32, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _lower(self, value: Any) -> Any:
        return value.to(self.dtype) if isinstance(value, Tensor) and value.dtype == torch.float32 else value


def _to_fp32(value: Any) -> Any:
    low = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if low else value
