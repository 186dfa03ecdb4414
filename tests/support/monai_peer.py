"""Imports MONAI, the independent implementation for comparisons."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest


def monai_or_skip(module: str) -> ModuleType:
    """Import a module of MONAI; without it, skip - but fail where ``CI`` is set."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason="needs MONAI to compare with: pip install -r requirements-dev.txt")
