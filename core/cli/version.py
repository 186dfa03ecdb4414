"""``--version``: versions of the program, its packages and Python, and the compute device."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from core import __version__
from core.formatting import format_count


def version_text() -> str:
    """One line each for Segmentarium, Python, torch, Streamlit and the device."""
    return "\n".join(
        [
            f"Segmentarium {__version__}",
            f"Python {platform.python_version()}",
            f"torch {_package_version('torch')}",
            f"Streamlit {_package_version('streamlit')}",
            f"device {_device()}",
        ]
    )


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _device() -> str:
    try:
        from core.compute.device import available_devices, device_name, resolve_device, set_num_threads
    except ImportError as error:
        return f"unknown: torch cannot be imported ({error})"
    threads = set_num_threads(0)
    device = resolve_device("auto")
    others = [name for name in available_devices() if name not in (device.type, "cpu")]
    also = f"; with --device: {', '.join(others)}" if others else ""
    return f"{device_name(device)}, {format_count(threads, 'CPU thread')}{also}"
