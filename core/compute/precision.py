"""Numerical precision of training and inference: which one a device supports, and autocast."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from core.compute.distributed import DistributedContext
from core.compute.expected_device import has_bf16_instructions
from core.errors import DeviceError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FP16_CAPABILITY = (7, 0)  # of NVIDIA GPUs, from which fp16 is faster than fp32 (tensor cores: V100, T4, RTX 20xx)
WITHOUT_TENSOR_CORES = "GTX 16"  # in the name: capability 7.5 all the same; fp16 convolutions give NaN (pytorch/58123)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast to a lower precision, a context without effect for "fp32"."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def wide_dtype(device: torch.device) -> torch.dtype:
    """The type for sums over many values: float64, or float32 on a GPU without it."""
    return torch.float64 if has_float64(device) else torch.float32


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64: no Apple GPU does, and not all of Intel's."""
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type != "mps"


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn "auto" into "bf16" where the device computes in it natively, into "fp16" on GPUs with tensor cores that do
    not, else into "fp32".

    Raises
    ------
    DeviceError
        If the device does not compute in the requested precision.
    """
    if device.type == "mps":
        if precision not in ("auto", "fp32"):
            raise DeviceError(
                f"precision: expected auto or fp32 on mps, got {precision}; torch has no transposed 3D convolutions in "
                "it there"
            )
        return "fp32"
    if device.type == "xpu" and precision == "fp16" and not has_float64(device):
        raise DeviceError(
            "precision: expected auto, bf16 or fp32 on this Intel GPU, got fp16; torch scales the loss in float64, "
            "which it does not have"
        )
    if precision != "auto":
        return precision
    if device.type == "xpu":
        return "bf16" if torch.xpu.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if _has_tensor_cores(device) else "fp32"
    return "bf16" if has_bf16_instructions() else "fp32"


def common_precision(precision: str, distributed: DistributedContext) -> str:
    """The precision of a run on several devices: that of all of them, or where they differ, as on GPUs of different
    kinds with "auto", fp32, in which every device computes. A gradient that is scaled for fp16 on one of them must not
    be averaged with others.

    Parameters
    ----------
    precision : str. The resolved precision of this process.
    distributed : DistributedContext. All processes call this function.
    """
    return precision if len(set(distributed.all_gather([precision]))) == 1 else "fp32"


def _has_tensor_cores(device: torch.device) -> bool:
    capable = torch.cuda.get_device_capability(device) >= FP16_CAPABILITY
    return capable and WITHOUT_TENSOR_CORES not in torch.cuda.get_device_name(device)
