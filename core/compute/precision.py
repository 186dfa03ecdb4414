"""Numerical precision of training and inference: which one a device supports, and autocast."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FP16_CAPABILITY = (7, 0)  # of NVIDIA GPUs, from which fp16 is faster than fp32 (tensor cores: V100, T4, RTX 20xx)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast to a lower precision, a context without effect for "fp32"."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn "auto" into "bf16" where the device computes in it natively, into "fp16" on GPUs with tensor cores that do
    not, else into "fp32"."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= FP16_CAPABILITY else "fp32"
    return "bf16" if _has_bf16_instructions() else "fp32"


def _has_bf16_instructions() -> bool:
    """Whether this CPU multiplies bf16 natively; emulation is slower than fp32."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
