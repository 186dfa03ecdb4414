"""Chooses where to compute, and knows how much memory there is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from core.compute.cgroups import memory_limits
from core.errors import DeviceError
from core.formatting import format_bytes

# How torch says it on Linux, on Windows, and where cuBLAS or cuDNN found no room.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
SMALLER = "choose a smaller sub_volume or batch_size, or fewer channels"
UNSURE = 1.25  # an estimate may be too high by so much


def resolve_device(name: str) -> torch.device:
    """Turn "auto", "cuda" or "cpu" into a device.

    Raises
    ------
    DeviceError
        If CUDA is asked for where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        build = "built without CUDA" if torch.version.cuda is None else "that sees no CUDA device"
        raise DeviceError(
            f"device: expected a CUDA device, found torch {torch.__version__} {build}; "
            "use --device cpu, or install a CUDA build as told on pytorch.org/get-started"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def set_threads(threads: int, processes: int = 1) -> int:
    """Use that many CPU threads (0: as many as this process may use, shared fairly among so many); returns the
    number."""
    if not threads:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(threads // processes, 1)
    torch.set_num_threads(threads)
    return threads


def memory_bytes(device: torch.device) -> int:
    """All the memory that this process may ever have on a device.

    For the CPU that is the machine's, or what its container (control group) or its limit of address space
    (``ulimit -v``) allows, whichever is least.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _limits())])


def free_bytes(device: torch.device) -> int:
    """Memory of a device that this process could take now, under the limits of :func:`memory_bytes`."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device) - _of_graphs(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(cached)
    import psutil

    left = [limit - used for limit, used in _limits()]
    return max(min([int(psutil.virtual_memory().available), *left]), 0)


def _of_graphs(device: torch.device) -> int:
    """Bytes of a CUDA device that recorded graphs keep to themselves while they do not run."""
    index = torch.cuda.current_device() if device.index is None else device.index
    held = [s for s in torch.cuda.memory_snapshot() if s["device"] == index and tuple(s["segment_pool_id"]) != (0, 0)]
    return sum(segment["total_size"] - segment["allocated_size"] for segment in held)


def check_memory(needed_bytes: int, device: torch.device, suggestion: str = "") -> None:
    """Refuse training that cannot fit, before it makes the machine swap or the kernel kill it.

    Parameters
    ----------
    needed_bytes : that a step is estimated to take.
    suggestion : what would fit, as :func:`core.training.plan.suggest` words it.

    Raises
    ------
    DeviceError
        If more is needed than the device has in all; on Linux also if far more is needed than is free for the CPU,
        where the kernel would kill the process without a word.
    """
    total, free = memory_bytes(device), free_bytes(device)
    deadly = device.type == "cpu" and sys.platform == "linux" and needed_bytes > UNSURE * free
    if needed_bytes > total or deadly:
        raise DeviceError(
            f"not enough memory: a training step would take about {format_bytes(needed_bytes)}, and {_whose(device)} memory is "
            f"{format_bytes(total)}, {format_bytes(free)} of it free; {suggestion or SMALLER}"
        )


def explain_memory(
    error: BaseException, device: torch.device, needed_bytes: int | None = None, suggestion: str = ""
) -> DeviceError | None:
    """A plain sentence for an out-of-memory error; ``None`` if it is another error.

    ``needed_bytes`` and ``suggestion`` are those of :func:`check_memory`, where they are known.
    """
    text = str(error).lower()
    if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not (
        isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)
    ):
        return None
    step = (
        f"; a training step was estimated to take about {format_bytes(needed_bytes)}"
        if needed_bytes is not None
        else ""
    )
    there = ""
    if device.type == "cpu" or torch.cuda.is_available():
        there = f" ({format_bytes(memory_bytes(device))}, {format_bytes(free_bytes(device))} of it free now)"
    return DeviceError(
        f"not enough memory: the work does not fit into {_whose(device)} memory{there}{step}; {suggestion or SMALLER}"
    )


def release_cached(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory that was freed; nothing on a CPU."""
    if device.type == "cuda":
        # Before 2.12 torch believed that a recording that failed went on, and refused (pytorch/pytorch#180395).
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


@contextlib.contextmanager
def cudnn_benchmark(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """While the block runs cuDNN tries, once for each size that it meets, which of its kernels is fastest: worth it
    where few sizes come again and again. Not where torch is told to be deterministic; nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = wanted and not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _limits() -> Iterator[tuple[int, int]]:
    """The limits that hold for this process on the CPU, and how much of each is used; bytes."""
    yield from memory_limits()
    if sys.platform == "linux":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            yield limit, pages * resource.getpagesize()


def _whose(device: torch.device) -> str:
    return "the CUDA device's" if device.type == "cuda" else "this machine's"
