"""The kind of device that a run will probably use, found without torch."""

from __future__ import annotations

import shutil


def expected_device(name: str) -> str:
    """The kind of device for a configured one; for "auto" ``cuda`` where NVIDIA's driver is installed, else ``cpu``."""
    if name != "auto":
        return name
    return "cuda" if shutil.which("nvidia-smi") else "cpu"
