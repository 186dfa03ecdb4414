"""Packages to compare with: without one a test is skipped, but fails on the build server."""

import importlib
import os
from types import ModuleType

import pytest


def import_or_skip(module: str, requirements: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
    requirements : str
        File of the requirements that contain the package, for the reason of a skipped test.

    Raises
    ------
    ModuleNotFoundError
        The package is missing and the environment variable ``CI`` is set.
    """
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"needs a package to compare with: pip install -r {requirements}")


def monai_or_skip(module: str) -> ModuleType:
    """Import a module of MONAI, or skip the test (see `import_or_skip`)."""
    return import_or_skip(module, "requirements-dev.txt")
