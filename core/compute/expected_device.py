"""The kind of device that a run will probably use, found without torch."""

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
