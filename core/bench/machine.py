"""Description of the machine of a benchmark, and its peak rate of matrix products."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from core.compute.device import device_name

CPU_MATRIX_SIZE, CUDA_MATRIX_SIZE = 2048, 8192  # rows and columns
REPEATS = 5
PRODUCTS_PER_SYNC = {"cpu": 1, "cuda": 10}


@dataclass(frozen=True)
class Machine:
    """A machine and the build of torch on it.

    Attributes
    ----------
    device : str. Kind of device, as torch names it.
    name : str. Model of the processor or card.
    cores : int. Cores this process may use.
    threads : int. CPU threads of torch.
    torch_version, python_version : str.
    cuda_version, cudnn_version : optional. ``None`` on a CPU.
    precision : str. Precision in which Segmentarium computes on the device.
    load : float, optional. One-minute load average before the measurement; ``None`` where the system has none. With a
        load well above 0 other processes were running, and the times are longer and less certain.
    """

    device: str
    name: str
    cores: int
    threads: int
    torch_version: str
    cuda_version: str | None
    cudnn_version: int | None
    python_version: str
    precision: str
    load: float | None

    @classmethod
    def current(cls, device: torch.device, precision: str) -> Machine:
        """This machine."""
        cuda = device.type == "cuda"
        return cls(
            device=device.type,
            name=_processor_name() if device.type == "cpu" else device_name(device),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            torch_version=torch.__version__,
            cuda_version=torch.version.cuda if cuda else None,
            cudnn_version=torch.backends.cudnn.version() if cuda else None,
            python_version=platform.python_version(),
            precision=precision,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        )

    def text(self) -> str:
        """The description in one line."""
        load = "" if self.load is None else f", load before {self.load:.1f}"
        cuda = f", CUDA {self.cuda_version}, cuDNN {self.cudnn_version}" if self.cuda_version else ""
        return (
            f"{self.device}: {self.name}, {self.cores} cores, {self.threads} threads{load}; "
            f"torch {self.torch_version}{cuda}, Python {self.python_version}; Segmentarium in {self.precision}"
        )


def matmul_peaks(device: torch.device, size: int | None = None) -> dict[str, float]:
    """Highest rate of several products of square matrices, in TFLOP/s, by precision.

    "fp32" and "bf16", and on CUDA "tf32", which convolutions in fp32 use there. The bf16 peak also applies to fp16.

    Parameters
    ----------
    device : torch.device.
    size : int, optional. Rows and columns of the matrices; ``None`` for the size of the kind of device.
    """
    size = size or (CUDA_MATRIX_SIZE if device.type == "cuda" else CPU_MATRIX_SIZE)
    peaks = {"fp32": _matmul_tflops(device, torch.float32, size), "bf16": _matmul_tflops(device, torch.bfloat16, size)}
    if device.type == "cuda":
        with _tf32_allowed():
            peaks["tf32"] = _matmul_tflops(device, torch.float32, size)
    return peaks


def peak_for(precision: str | None, device: torch.device, peaks: dict[str, float]) -> float | None:
    """Peak rate in TFLOP/s that convolutions in this precision are compared with; ``None`` if it was not measured."""
    if precision in ("bf16", "fp16"):
        return peaks.get("bf16")
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        return peaks.get("tf32")
    return peaks.get("fp32")


def defaults_of(device: torch.device) -> str:
    """Key of the default sizes of a benchmark: "cpu", or "cuda" for every GPU."""
    return "cpu" if device.type == "cpu" else "cuda"


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        torch.accelerator.synchronize()


def _matmul_tflops(device: torch.device, dtype: torch.dtype, size: int) -> float:
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, products = float("inf"), PRODUCTS_PER_SYNC[defaults_of(device)]
    for _ in range(REPEATS):
        synchronize(device)
        started = time.perf_counter()
        for _ in range(products):
            torch.matmul(left, right)
        synchronize(device)
        best = min(best, (time.perf_counter() - started) / products)
    return 2 * size**3 / best / 1e12


@contextmanager
def _tf32_allowed() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            line = next((line for line in file if line.startswith("model name")), "")
    except OSError:
        line = ""
    return line.partition(":")[2].strip() or platform.processor() or platform.machine()
