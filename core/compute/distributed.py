"""Data-parallel training in several processes, one device each, on top of ``torch.distributed``.

All processes execute the same collective calls in the same order. Decisions that could differ between processes (the
clock, a request to stop) are taken by the main process and broadcast. ``DistributedDataParallel`` averages the
gradients during the backward pass.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from core.errors import DeviceError, LostProcessError

Item = TypeVar("Item")


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that train one network. A single process does not use ``torch.distributed``.

    Every collective method raises :class:`~core.errors.LostProcessError` if another process has ended.

    Attributes
    ----------
    rank : int. Rank of this process, from 0.
    world_size : int. Number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process has rank 0: it takes decisions, writes files and emits events."""
        return self.rank == 0

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """The main process's values, on every process. Sent over gloo on the host: no device synchronisation."""
        if self.world_size == 1:
            return [float(value) for value in values]
        shared = torch.tensor(values, dtype=torch.float64)
        with _detect_lost_process():
            torch.distributed.broadcast(shared, src=0)
        return [float(value) for value in shared.tolist()]

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors of every process, in place, by those of the main process."""
        if self.world_size > 1:
            with _detect_lost_process():
                for tensor in tensors:
                    torch.distributed.broadcast(tensor, src=0)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.world_size > 1:
            with _detect_lost_process():
                torch.distributed.all_reduce(tensor)
        return tensor

    def shard(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's share of the items: every ``world_size``-th, starting at ``rank``."""
        return items[self.rank :: self.world_size]

    def all_gather(self, items: Sequence[Item]) -> list[Item]:
        """The inverse of :meth:`shard`: the items of all processes, in the order before sharding."""
        if self.world_size == 1:
            return list(items)
        shards: list[Any] = [None] * self.world_size
        with _detect_lost_process():
            torch.distributed.all_gather_object(shards, list(items))
        longest = max(len(shard) for shard in shards)
        return [shard[n] for n in range(longest) for shard in shards if n < len(shard)]

    def wrap_model(self, model: nn.Module) -> nn.Module:
        """The model in ``DistributedDataParallel``; the model itself in a single process."""
        if self.world_size == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        with _detect_lost_process():
            return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """A context in which the gradients of a wrapped model are accumulated without being averaged."""
        return contextlib.nullcontext() if self.world_size == 1 else model.no_sync()  # type: ignore[operator]

    def detect_lost_process(self) -> AbstractContextManager[None]:
        """A context that turns torch's errors about a broken connection into :class:`~core.errors.LostProcessError`."""
        return contextlib.nullcontext() if self.world_size == 1 else _detect_lost_process()


SINGLE_PROCESS = DistributedContext()


@contextlib.contextmanager
def init_process_group(device: torch.device) -> Iterator[tuple[DistributedContext, torch.device]]:
    """Join the process group of ``torchrun``, if this process was started by it, and leave it at the end.

    Yields
    ------
    The context, and the device of this process: for CUDA, the one whose index is the rank on this node.

    Raises
    ------
    DeviceError
        If there are fewer CUDA devices than processes.
    LostProcessError
        If another process does not join.
    """
    rank, world_size = _torchrun_rank()
    if world_size == 1:
        yield SINGLE_PROCESS, device
        return
    backend = "gloo"
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"devices: expected 1 on {device.type}, got {world_size}; several are used with CUDA alone")
    if device.type == "cuda":
        here, number = _ranks_of_node(rank, world_size)
        if torch.cuda.device_count() < here:
            raise DeviceError(
                f"devices: expected at most as many as there are CUDA devices, {torch.cuda.device_count()}; got {here}"
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    # torchrun keeps its store over restarts: without a prefix, the entries of the previous attempt would be read.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    with _detect_lost_process():
        store, _, _ = next(torch.distributed.rendezvous("env://", rank, world_size))  # type: ignore[attr-defined]
        store = torch.distributed.PrefixStore(f"attempt/{attempt}", store)  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    try:
        yield DistributedContext(rank, world_size), device
    finally:
        with contextlib.suppress(Exception):  # fails if other processes have ended; this one ends too
            torch.distributed.destroy_process_group()


def _torchrun_rank() -> tuple[int, int]:
    """Rank and world size from the environment that ``torchrun`` sets; (0, 1) without it."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ["RANK"]), world_size) if world_size > 1 and "RANK" in os.environ else (0, 1)


def _ranks_of_node(rank: int, world_size: int) -> tuple[int, int]:
    """Number of processes on this node, and this one's number among them, as ``torchrun`` sets them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size)), int(os.environ.get("LOCAL_RANK", rank))


@contextlib.contextmanager
def _detect_lost_process() -> Iterator[None]:
    """Raise LostProcessError for a broken connection; gloo reports one as a plain RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        if isinstance(error, torch.distributed.DistError) or any(name in text for name in ("gloo", "nccl", "peer")):
            shown = " ".join(str(error).split())[:300]
            raise LostProcessError(f"another process of this training run has ended: {shown}") from error
        raise
