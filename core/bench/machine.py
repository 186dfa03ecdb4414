"""What the measurements ran on, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

CPU_SIZE, CUDA_SIZE = 2048, 8192  # rows and columns of the matrices
REPEATS = 5
PRODUCTS = {"cpu": 1, "cuda": 10}  # in a row, between waiting for the device


@dataclass(frozen=True)
class Machine:
    """A machine and the build of torch on it.

    Attributes
    ----------
    device, name : "cpu" or "cuda", and the model of the processor or card.
    cores, threads : that this process may use, and that torch uses.
    torch_version, cuda_version, cudnn_version, python_version : those of CUDA and cuDNN are ``None`` for a CPU.
    precision : that ours computes in there.
    load : processes that wanted to run, mean of the last minute before the measurement; ``None`` where the system does
        not say. Much above 0: others were at work, times are longer and less certain.
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
    def here(cls, device: torch.device, precision: str) -> Machine:
        """This machine."""
        cuda = device.type == "cuda"
        return cls(
            device=device.type,
            name=torch.cuda.get_device_name(device) if cuda else _processor(),
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
        """One line."""
        load = "" if self.load is None else f", load before {self.load:.1f}"
        cuda = f", CUDA {self.cuda_version}, cuDNN {self.cudnn_version}" if self.cuda_version else ""
        return (
            f"{self.device}: {self.name}, {self.cores} cores, {self.threads} threads{load}; "
            f"torch {self.torch_version}{cuda}, Python {self.python_version}; ours in {self.precision}"
        )


def matmul_peaks(device: torch.device, size: int | None = None) -> dict[str, float]:
    """The fastest of some products of square matrices, in 10^12 operations a second, by precision.

    "fp32" and "bf16", and on CUDA "tf32", which convolutions in fp32 use there. bf16 stands for fp16 too.
    """
    size = size or (CUDA_SIZE if device.type == "cuda" else CPU_SIZE)
    peaks = {"fp32": _matmul_tflops(device, torch.float32, size), "bf16": _matmul_tflops(device, torch.bfloat16, size)}
    if device.type == "cuda":
        with _tf32():
            peaks["tf32"] = _matmul_tflops(device, torch.float32, size)
    return peaks


def peak_of(precision: str | None, device: torch.device, peaks: dict[str, float]) -> float | None:
    """The peak that convolutions in this precision can be compared with."""
    if precision in ("bf16", "fp16"):
        return peaks.get("bf16")
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        return peaks.get("tf32")
    return peaks.get("fp32")


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _matmul_tflops(device: torch.device, dtype: torch.dtype, size: int) -> float:
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(REPEATS):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(PRODUCTS[device.type]):
            torch.matmul(one, other)
        synchronise(device)
        best = min(best, (time.perf_counter() - began) / PRODUCTS[device.type])
    return 2 * size**3 / best / 1e12


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            named = next((line for line in file if line.startswith("model name")), "")
    except OSError:
        named = ""
    return named.partition(":")[2].strip() or platform.processor() or platform.machine()
