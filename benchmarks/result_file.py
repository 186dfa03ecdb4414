"""Results of a benchmark in a file that is written after each measurement, so that an interrupted one can continue."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import core
from core.bench.machine import Machine
from core.files import atomic_write
from core.paths import project_root


class ResultFile:
    """Results and calibrations in a JSON file, written after each of them; threads may share it.

    Parameters
    ----------
    path : Path. The file; it need not exist.

    Attributes
    ----------
    results : dict. A result by the key of its case.
    calibrations : dict. Sub-volumes per second by the key of a configuration.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        data = json.loads(path.read_text()) if path.is_file() else {}
        self.results: dict[str, dict[str, Any]] = data.get("results", {})
        self.calibrations: dict[str, float] = data.get("calibrations", {})

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Add a result."""
        with self._lock:
            self.results[key] = result
            self._write()

    def add_calibration(self, key: str, speed: float) -> None:
        """Add a calibration."""
        with self._lock:
            self.calibrations[key] = speed
            self._write()

    def of_suite(self, suite: str, failed: bool = False) -> list[dict[str, Any]]:
        """The results of a suite, or its cases that failed, in the order in which they were measured."""
        return [r for r in self.results.values() if r["suite"] == suite and ("error" in r) == failed]

    def _write(self) -> None:
        data = {"results": self.results, "calibrations": self.calibrations}
        atomic_write(self.path, json.dumps(data, indent=1) + "\n")


def origin(device: str = "cpu") -> dict[str, Any]:
    """Where, with what and when a result is measured: machine, program, date and load, for the result.

    Parameters
    ----------
    device : str. Kind of device on which it is measured, as torch names it.
    """
    import torch

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "machine": machine_name(device),
        "cores": Machine.current(torch.device(device), "").cores,
        "program": program_name(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load": None if load is None else round(load, 1),
    }


@functools.cache
def machine_name(device: str = "cpu") -> str:
    """Processor or card, cores, and the versions of Python and torch."""
    import torch

    found = Machine.current(torch.device(device), "")
    cuda = f", CUDA {found.cuda_version}" if found.cuda_version else ""
    versions = f"Python {found.python_version}, torch {found.torch_version}{cuda}"
    return f"{found.name}, {found.cores} {'core' if found.cores == 1 else 'cores'}, {versions}"


@functools.cache
def program_name() -> str:
    """Version of this program and the last commit that changed its code; "changed" where the code differs from it."""
    version = f"Segmentarium {core.__version__}"
    commit = _git("log", "-1", "--format=%h", "--abbrev=10", "--", "core")
    if not commit:
        return version
    return f"{version}, commit {commit}{', changed' if _git('status', '--porcelain', '--', 'core') else ''}"


def _git(*arguments: str) -> str:
    """Output of git in the project's folder; empty where this is no checkout."""
    try:
        done = subprocess.run(["git", *arguments], cwd=project_root(), capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
