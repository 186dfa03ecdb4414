"""Folders of the web server; those of data and of the program are in :mod:`core.paths`."""

from __future__ import annotations

from pathlib import Path

from core.paths import cache_folder, checkpoints_root


def runs_root() -> Path:
    """The folder of the runs and their index."""
    return checkpoints_root()


def cache_root() -> Path:
    """The folder of results that can be computed again: reports, predictions and volumes for the browser."""
    return cache_folder()
