"""The libraries that ours is measured beside: imported when they are asked for, or said to be missing."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from core.errors import first_line

REQUIREMENTS = "requirements-bench.txt"
PACKAGES = ("monai", "dynamic_network_architectures", "torchio")  # all that is in it


class PeerMissingError(Exception):
    """A library to compare with cannot be used; its row of the table says why, or how to get it."""

    def __init__(self, package: str, why: str = f"not installed: pip install -r {REQUIREMENTS}") -> None:
        super().__init__(why)
        self.package = package


def peer(module: str) -> Any:
    """Import a module of a peer.

    Raises
    ------
    PeerMissingError
        If its package is not installed, or lacks something that it needs.
    """
    package = module.partition(".")[0]
    if not there(package):
        raise PeerMissingError(package)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PeerMissingError(package, f"cannot be imported: {first_line(error)}") from error


def there(package: str) -> bool:
    """Whether a package can be imported; it is not."""
    return importlib.util.find_spec(package) is not None


def versions() -> dict[str, str]:
    """The versions of the peers that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
