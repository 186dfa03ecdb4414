"""Optional libraries to compare with: imported on demand, or reported as missing."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from core.errors import first_line

REQUIREMENTS = "requirements-bench.txt"
PACKAGES = ("monai", "dynamic_network_architectures", "torchio")  # all packages in REQUIREMENTS


class PeerMissingError(Exception):
    """A library to compare with is not installed or cannot be imported; the message goes into its row."""

    def __init__(self, package: str, reason: str = f"not installed: pip install -r {REQUIREMENTS}") -> None:
        super().__init__(reason)
        self.package = package


def import_peer(module: str) -> Any:
    """Import a module of a library to compare with.

    Raises
    ------
    PeerMissingError
        If its package is not installed, or lacks a dependency.
    """
    package = module.partition(".")[0]
    if not is_installed(package):
        raise PeerMissingError(package)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PeerMissingError(package, f"cannot be imported: {first_line(error)}") from error


def is_installed(package: str) -> bool:
    """Whether a package is installed; does not import it."""
    return importlib.util.find_spec(package) is not None


def peer_versions() -> dict[str, str]:
    """Versions of the libraries that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
