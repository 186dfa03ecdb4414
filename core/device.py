"""Chooses where to compute."""

from __future__ import annotations

import os

import torch

from core.errors import DeviceError


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


def explain_memory(error: BaseException, device: torch.device) -> DeviceError | None:
    """A plain sentence for an out-of-memory error; ``None`` if it is another error."""
    text = str(error).lower()
    if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    ):
        return None
    where = "the CUDA device's" if device.type == "cuda" else "this machine's"
    return DeviceError(
        f"not enough memory: the work does not fit into {where} memory; "
        "choose a smaller sub_volume or batch_size, or fewer channels"
    )
