"""Chooses where to compute."""

from __future__ import annotations

import os

import torch

from core.errors import DeviceError

# How torch says it on Linux, on Windows, and where cuBLAS or cuDNN found no room.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


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


def set_threads(threads: int) -> int:
    """Use that many CPU threads (0: as many as this process may use); returns the number."""
    if not threads:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads)
    return threads


def memory_bytes(device: torch.device) -> int:
    """All the memory that a device has; the machine's own for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return int(psutil.virtual_memory().total)


def check_memory(needed_bytes: int, device: torch.device) -> None:
    """Refuse work that cannot fit, before it makes the machine swap or the kernel kill it.

    Raises
    ------
    DeviceError
        If more is needed than the device has in all.
    """
    there = memory_bytes(device)
    if needed_bytes > there:
        raise DeviceError(
            f"not enough memory: training would take about {needed_bytes / 1e9:.1f} GB, and {_whose(device)} memory is "
            f"{there / 1e9:.1f} GB; choose a smaller sub_volume or batch_size, or fewer channels"
        )


def explain_memory(error: BaseException, device: torch.device) -> DeviceError | None:
    """A plain sentence for an out-of-memory error; ``None`` if it is another error."""
    text = str(error).lower()
    if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not (
        isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)
    ):
        return None
    return DeviceError(
        f"not enough memory: the work does not fit into {_whose(device)} memory; "
        "choose a smaller sub_volume or batch_size, or fewer channels"
    )


def _whose(device: torch.device) -> str:
    return "the CUDA device's" if device.type == "cuda" else "this machine's"
