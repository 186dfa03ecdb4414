"""How long things take, taken in turns so that noise hits all alike, and how much memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from core.bench.machine import synchronise
from core.compute.allocator import set_freed_memory_retention, trim_heap
from core.compute.device import empty_cache

Work = Callable[[], object]
Show = Callable[[float, int, str], None]  # (done, total, words)


def at_home(work: Work, ours: bool) -> Work:
    """The work in a process as it finds it: freed memory is kept for ours, as in training and in prediction."""

    def at_work() -> object:
        set_freed_memory_retention(ours)
        return work()

    return at_work


def in_turns(
    works: Sequence[Work], steps: Sequence[int], blocks: int, device: torch.device, show: Callable[[int], None]
) -> list[list[float]]:
    """Measure works in turns: every block times each of them, and each block begins with another one.

    Parameters
    ----------
    works : warmed up already.
    steps : of each work, calls in a row that are timed together; the device is waited for before and after them.
    blocks : how often each work gets its turn.
    show : called with the number of turns that are done, ``blocks * len(works)`` at the end.

    Returns
    -------
    For each work the seconds of one call, one value for each block.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for block in range(blocks):
        for turn in range(len(works)):
            index = (block + turn) % len(works)
            seconds[index].append(time_of(works[index], steps[index], device))
            show(block * len(works) + turn + 1)
    return seconds


def time_of(work: Work, steps: int, device: torch.device) -> float:
    """Seconds of one of ``steps`` calls in a row."""
    synchronise(device)
    began = time.perf_counter()
    for _ in range(steps):
        work()
    synchronise(device)
    return (time.perf_counter() - began) / steps


class PeakMemory:
    """The most memory that is taken, beyond what was taken when this was made.

    On CUDA it is what torch has reserved, which counts what a recorded graph keeps to itself. On a CPU it is the
    resident size of the process, whose highest value Linux lets a process forget; other systems do not, and there is
    nothing to read.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before: int | None
        if device.type == "cuda":
            self.settle()
            self.before = torch.cuda.memory_reserved(device)
        else:
            self.before = _forget_peak()

    def settle(self) -> None:
        """On CUDA, forget what was taken since: after a first call, which tries kernels, compiles, or records."""
        if self.device.type == "cuda":
            synchronise(self.device)
            empty_cache(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)

    def read_mb(self) -> float | None:
        """In 10^6 bytes; ``None`` where the system has no way to tell."""
        if self.before is None:
            return None
        if self.device.type == "cuda":
            synchronise(self.device)
            most: int | None = torch.cuda.max_memory_reserved(self.device)
        else:
            most = _resident("VmHWM")
        return None if most is None else max(most - self.before, 0) / 1e6


def _forget_peak() -> int | None:
    """Give back what is free, forget the highest resident size; the resident size now, in bytes."""
    trim_heap()  # else the next work would reuse it, and seem to take less
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return None
    return _resident("VmRSS")


def _resident(name: str) -> int | None:
    try:
        with open("/proc/self/status") as file:
            line = next((line for line in file if line.startswith(name + ":")), None)
    except OSError:
        return None
    return int(line.split()[1]) * 1024 if line is not None else None
