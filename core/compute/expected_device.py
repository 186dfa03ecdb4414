"""The kind of device that a run will probably use, and its precision, found without torch."""

from __future__ import annotations

import os
import shutil


def expected_device(name: str) -> str:
    """The kind of device for a configured one; for "auto" ``cuda`` where NVIDIA's driver is installed and
    its GPUs are not hidden, else ``cpu``."""
    if name != "auto":
        return name
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return "cpu"
    return "cuda" if shutil.which("nvidia-smi") else "cpu"


def expected_precision(name: str, device: str) -> str:
    """The precision for a configured one: for "auto" ``fp32`` on a device that computes in nothing else, such as an
    Apple GPU or a CPU without instructions for bf16; otherwise the configured one."""
    only_fp32 = device == "mps" or (device == "cpu" and not has_bf16_instructions())
    return "fp32" if name == "auto" and only_fp32 else name


def has_bf16_instructions() -> bool:
    """Whether this CPU multiplies bf16 natively; emulation is slower than fp32."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
