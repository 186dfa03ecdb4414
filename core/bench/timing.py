"""Interleaved timing, so that noise of the machine affects all workloads alike, and peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from core.bench.machine import synchronize
from core.compute.allocator import set_freed_memory_retention, trim_heap
from core.compute.device import empty_cache
from core.types import TextProgressCallback

Workload = Callable[[], object]


def with_memory_retention(workload: Workload, retain: bool) -> Workload:
    """The workload with the allocator setting of its process: Segmentarium retains freed memory, the others do not."""

    def run() -> object:
        set_freed_memory_retention(retain)
        return workload()

    return run


def time_interleaved(
    workloads: Sequence[Workload],
    calls: Sequence[int],
    blocks: int,
    device: torch.device,
    on_turn: Callable[[int], None],
) -> list[list[float]]:
    """Time workloads in turns: every block times each of them, and each block begins with another one.

    Parameters
    ----------
    workloads : sequence of callable. Warmed up.
    calls : sequence of int. Calls of each workload that are timed together; the device is synchronised before and
        after them.
    blocks : int. Number of blocks.
    device : torch.device. Device to synchronise.
    on_turn : callable. Called after each turn with the number of turns done, ``blocks * len(workloads)`` at the end.

    Returns
    -------
    list of list of float. Seconds per call, shape (workload, block).
    """
    seconds: list[list[float]] = [[] for _ in workloads]
    for block in range(blocks):
        for turn in range(len(workloads)):
            index = (block + turn) % len(workloads)
            seconds[index].append(seconds_per_call(workloads[index], calls[index], device))
            on_turn(block * len(workloads) + turn + 1)
    return seconds


def seconds_per_call(workload: Workload, calls: int, device: torch.device) -> float:
    """Mean duration of consecutive calls in seconds."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        workload()
    synchronize(device)
    return (time.perf_counter() - started) / calls


class RemainingTime:
    """Turns as progress with an estimate of the remaining time.

    Parameters
    ----------
    turns : int. Number of turns.
    progress : callable. Called with (turns done, turns, text).
    prefix : str. Begin of the text.
    """

    def __init__(self, turns: int, progress: TextProgressCallback, prefix: str = "") -> None:
        self._turns, self._progress, self._prefix = turns, progress, prefix
        self._started = time.perf_counter()

    def __call__(self, done: int) -> None:
        left_s = (time.perf_counter() - self._started) / done * (self._turns - done)
        self._progress(done, self._turns, f"{self._prefix}about {left_s:.0f} s left")


class PeakMemory:
    """Peak memory beyond the memory in use at construction.

    On CUDA: memory reserved by torch, which includes the private pools of captured graphs. On a CPU: resident size of
    the process, on Linux only, where the peak can be reset; ``None`` elsewhere, and on other GPUs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._baseline: int | None
        if device.type == "cuda":
            self.reset()
            self._baseline = torch.cuda.memory_reserved(device)
        else:
            self._baseline = _reset_resident_peak() if device.type == "cpu" else None

    def reset(self) -> None:
        """On CUDA, reset the peak: after the first call, which tries kernels, compiles, or captures a graph."""
        if self._device.type == "cuda":
            synchronize(self._device)
            empty_cache(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)

    def read_mb(self) -> float | None:
        """Peak in 10^6 bytes; ``None`` where the system has no value."""
        if self._baseline is None:
            return None
        if self._device.type == "cuda":
            synchronize(self._device)
            peak: int | None = torch.cuda.max_memory_reserved(self._device)
        else:
            peak = _process_memory("VmHWM")
        return None if peak is None else max(peak - self._baseline, 0) / 1e6


def _reset_resident_peak() -> int | None:
    """Reset the peak of the resident size; returns the resident size in bytes, or ``None`` where neither is known."""
    trim_heap()  # else the next workload reuses freed memory, and its peak is too low
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return None
    return _process_memory("VmRSS")


def _process_memory(field: str) -> int | None:
    """A field of /proc/self/status in bytes."""
    try:
        with open("/proc/self/status") as file:
            line = next((line for line in file if line.startswith(field + ":")), None)
    except OSError:
        return None
    return int(line.split()[1]) * 1024 if line is not None else None
