"""Results of a benchmark in a file that is written after each measurement, so that an interrupted one can continue."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from core.files import atomic_write


class ResultFile:
    """Results and calibrations in a JSON file, written after each of them.

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
        data = json.loads(path.read_text()) if path.is_file() else {}
        self.results: dict[str, dict[str, Any]] = data.get("results", {})
        self.calibrations: dict[str, float] = data.get("calibrations", {})

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Add a result."""
        self.results[key] = result
        self._write()

    def add_calibration(self, key: str, speed: float) -> None:
        """Add a calibration."""
        self.calibrations[key] = speed
        self._write()

    def of_suite(self, suite: str) -> list[dict[str, Any]]:
        """The results of a suite that have a Dice, in the order in which they were measured."""
        return [r for r in self.results.values() if r["suite"] == suite and r.get("mean_dice") is not None]

    def _write(self) -> None:
        data = {"results": self.results, "calibrations": self.calibrations}
        atomic_write(self.path, json.dumps(data, indent=1) + "\n")


def machine_name() -> str:
    """Processor type, cores and torch's version, for a result."""
    from importlib.metadata import version

    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {version('torch')}"
