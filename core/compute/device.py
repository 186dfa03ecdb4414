"""Compute devices: selection, number of CPU threads, total and free memory, out-of-memory errors."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import torch

from core.choices import DEVICES
from core.compute.machine_memory import free_memory, machine_memory, process_limits
from core.errors import DeviceError
from core.formatting import format_bytes

# Parts of torch's messages: on Linux, on Windows, of cuBLAS and cuDNN.
OUT_OF_MEMORY_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
ADVICE = "choose a smaller sub_volume or batch_size, or fewer channels"
ESTIMATE_TOLERANCE = 1.25  # an estimate may be too high by this factor


def resolve_device(name: str) -> torch.device:
    """The device for "auto" or a kind of device; "auto" is CUDA where there is one, else the CPU.

    Raises
    ------
    DeviceError
        If the requested kind is not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        build = "built without CUDA" if torch.version.cuda is None else "that sees no CUDA device"
        raise DeviceError(
            f"device: expected a CUDA device, found torch {torch.__version__} {build}; "
            "use --device cpu, or install a CUDA build (pytorch.org/get-started)"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        build = "without a Metal device" if torch.backends.mps.is_built() else "built without MPS"
        raise DeviceError(
            f"device: expected an Apple GPU, found torch {torch.__version__} {build}; use --device cpu, or, on a Mac "
            "with Apple silicon, torch from PyPI"
        )
    if name == "xpu" and not torch.xpu.is_available():
        raise DeviceError(
            f"device: expected an Intel GPU, found torch {torch.__version__} that sees none; use --device cpu, or "
            "install an XPU build (pytorch.org/get-started)"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The name of a GPU, or "CPU"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return str(torch.xpu.get_device_name(device))
    return {"cpu": "CPU", "mps": "Apple GPU"}[device.type]


def available_devices() -> tuple[str, ...]:
    """The kinds of device that torch finds here, for example ``("cuda", "cpu")``."""
    found = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
    }
    return tuple(name for name in DEVICES if found.get(name, True))


def set_num_threads(threads: int, processes: int = 1) -> int:
    """Set torch's number of CPU threads.

    Parameters
    ----------
    threads : int. Number of threads; 0: all cores that this process may use, divided by ``processes``.
    processes : int. Processes of the same run on this machine.

    Returns
    -------
    The number of threads set.
    """
    if not threads:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(threads // processes, 1)
    torch.set_num_threads(threads)
    return threads


def total_bytes(device: torch.device) -> int:
    """Memory of a device in bytes.

    For the CPU: the least of the machine's memory, the limits of the process's control groups (containers) and its
    limit of address space (``ulimit -v``).
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "xpu":
        return int(torch.xpu.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return min([machine_memory().total_bytes, *(limit for limit, _ in process_limits())])


def free_bytes(device: torch.device) -> int:
    """Memory of a device in bytes that this process can allocate now, within the limits of :func:`total_bytes`."""
    if device.type == "cuda":
        reserved, allocated = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
        cached = reserved - allocated - _cuda_graph_bytes(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(cached)
    if device.type == "xpu":
        return _free_xpu_bytes(device)
    if device.type == "mps":  # its memory is the machine's
        own = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
        return max(min(int(own), machine_memory().available_bytes), 0)
    return free_memory()


def _free_xpu_bytes(device: torch.device) -> int:
    """:func:`free_bytes` of an Intel GPU. With integrated ones and some drivers torch does not know what other programs
    use: what this process has not allocated, and of memory shared with the CPU no more than is free."""
    allocated = torch.xpu.memory_allocated(device)
    try:
        return int(torch.xpu.mem_get_info(device)[0]) + int(torch.xpu.memory_reserved(device) - allocated)
    except RuntimeError:
        own = total_bytes(device) - int(allocated)
    if getattr(torch.xpu.get_device_properties(device), "is_integrated_gpu", True):  # torch before 2.13 does not tell
        own = min(own, free_memory())
    return max(own, 0)


def check_memory(needed_bytes: int, device: torch.device, suggestion: Callable[[], str] | None = None) -> None:
    """Reject a training step that cannot fit into memory, before the machine swaps or the kernel kills the process.

    Parameters
    ----------
    needed_bytes : int. Estimated peak of a training step.
    suggestion : callable, optional. Gives a configuration that would fit, as a text; asked only where it is needed.

    Raises
    ------
    DeviceError
        If the step needs more than the device's total memory, or, for the CPU on Linux, far more than is free: the
        kernel would kill the process without an error.
    """
    total, free = total_bytes(device), free_bytes(device)
    would_be_killed = device.type == "cpu" and sys.platform == "linux" and needed_bytes > ESTIMATE_TOLERANCE * free
    if needed_bytes > total or would_be_killed:
        raise DeviceError(
            f"not enough memory: a training step would take about {format_bytes(needed_bytes)}, and "
            f"{_possessive(device)} memory is {format_bytes(total)}, {format_bytes(free)} of it free; "
            f"{suggestion() if suggestion else ADVICE}"
        )


def out_of_memory_error(
    error: BaseException,
    device: torch.device,
    needed_bytes: int | None = None,
    suggestion: Callable[[], str] | None = None,
) -> DeviceError | None:
    """The user-facing error for an out-of-memory error of torch, numpy or Python; ``None`` for any other error.

    Parameters
    ----------
    error : BaseException. The error to translate.
    needed_bytes, suggestion : as in :func:`check_memory`, if known.
    """
    text = str(error).lower()
    if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not (
        isinstance(error, RuntimeError) and any(message in text for message in OUT_OF_MEMORY_MESSAGES)
    ):
        return None
    estimate = ""
    if needed_bytes is not None:
        estimate = f"; a training step was estimated to take about {format_bytes(needed_bytes)}"
    memory = ""
    if device.type in available_devices():
        memory = f" ({format_bytes(total_bytes(device))}, {format_bytes(free_bytes(device))} of it free now)"
    return DeviceError(
        f"not enough memory: the work does not fit into {_possessive(device)} memory{memory}{estimate}; "
        f"{suggestion() if suggestion else ADVICE}"
    )


def empty_cache(device: torch.device) -> None:
    """Release the unused memory that torch's allocator has cached on a GPU; no effect on a CPU."""
    if device.type == "cuda":
        # Before 2.12 torch raises after a failed graph capture (pytorch/pytorch#180395).
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
    elif device.type in ("mps", "xpu"):
        getattr(torch, device.type).empty_cache()


@contextlib.contextmanager
def cudnn_benchmark(device: torch.device, enabled: bool = True) -> Iterator[None]:
    """A context in which cuDNN measures its kernels once per input size and uses the fastest.

    Worth its cost where few sizes recur. Off while torch uses deterministic algorithms; no effect on a CPU.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = enabled and not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _cuda_graph_bytes(device: torch.device) -> int:
    """Reserved but unallocated bytes in the private memory pools of CUDA graphs, which other work cannot use."""
    index = torch.cuda.current_device() if device.index is None else device.index
    private = [
        segment
        for segment in torch.cuda.memory_snapshot()
        if segment["device"] == index and tuple(segment["segment_pool_id"]) != (0, 0)
    ]
    return sum(segment["total_size"] - segment["allocated_size"] for segment in private)


def _possessive(device: torch.device) -> str:
    return {"cuda": "the CUDA device's", "xpu": "the Intel GPU's"}.get(device.type, "this machine's")
