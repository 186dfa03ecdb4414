"""Several processes that train one network together, a device for each: who leads, and what they tell one another.

The processes of a team do the same things in the same order. Whatever they could decide differently - by the clock, or
because somebody asked one of them to stop - the leader decides, and the others :meth:`~DistributedContext.broadcast`. Gradients are
averaged by torch's ``DistributedDataParallel`` while the backward pass goes on.
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
    """The processes, as one of them sees them. A team of one needs no ``torch.distributed``.

    Attributes
    ----------
    rank : of this process, from 0.
    size : processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that decides, writes and reports."""
        return self.rank == 0

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """The leader's values, on every process. They travel through the host: the device is not waited for."""
        if self.size == 1:
            return [float(value) for value in values]
        shared = torch.tensor(values, dtype=torch.float64)
        with _lost():
            torch.distributed.broadcast(shared, src=0)
        return [float(value) for value in shared.tolist()]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            with _lost():
                torch.distributed.all_reduce(tensor)
        return tensor

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the leader's tensors, in place."""
        if self.size > 1:
            with _lost():
                for tensor in tensors:
                    torch.distributed.broadcast(tensor, src=0)

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes that were :meth:`dealt` out, in the order in which they were dealt."""
        if self.size == 1:
            return list(items)
        every: list[Any] = [None] * self.size
        with _lost():
            torch.distributed.all_gather_object(every, list(items))
        longest = max(len(hand) for hand in every)
        return [hand[n] for n in range(longest) for hand in every if n < len(hand)]

    def shard(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of items that are dealt out in turns, the leader first."""
        return items[self.rank :: self.size]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training: gradients are averaged over the team in its backward pass."""
        if self.size == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        with _lost():
            return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """Meanwhile gradients of a wrapped network are summed up here alone: those of all but the last batch."""
        return contextlib.nullcontext() if self.size == 1 else network.no_sync()  # type: ignore[operator]

    def guard(self) -> AbstractContextManager[None]:
        """Around what may find out that another process is gone: it raises :class:`LostProcessError` then."""
        return contextlib.nullcontext() if self.size == 1 else _lost()


ALONE = DistributedContext()


def asked_for() -> tuple[int, int] | None:
    """Rank and size of the team that this process was started for; ``None`` if it was started alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ["RANK"]), size) if size > 1 and "RANK" in os.environ else None


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[tuple[DistributedContext, torch.device]]:
    """Meet the others that ``torchrun`` has started, if it has; gives the team and this process's device.

    Raises
    ------
    DeviceError
        If there are fewer CUDA devices than processes.
    LostProcessError
        If one of them does not come.
    """
    asked = asked_for()
    if asked is None:
        yield ALONE, device
        return
    rank, size = asked
    backend = "gloo"
    if device.type == "cuda":
        if torch.cuda.device_count() < size:
            raise DeviceError(
                f"devices: expected at most as many as there are CUDA devices, {torch.cuda.device_count()}; got {size}"
            )
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    # torchrun keeps its store when it starts all anew: what those before have said must not be taken for the others'.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    with _lost():
        store, _, _ = next(torch.distributed.rendezvous("env://", rank, size))  # type: ignore[attr-defined]
        store = torch.distributed.PrefixStore(f"attempt/{attempt}", store)  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield DistributedContext(rank, size), device
    finally:
        with contextlib.suppress(Exception):  # others may be gone; the process ends anyway
            torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """Turn what torch says about a connection that broke into one type of error; it has none of its own for gloo."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).lower()
        if isinstance(error, torch.distributed.DistError) or any(part in words for part in ("gloo", "nccl", "peer")):
            told = " ".join(str(error).split())[:300]
            raise LostProcessError(f"another process of the team is gone: {told}") from error
        raise
