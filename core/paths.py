"""Folders of runs and data sets, and their defaults."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = ".cache"  # in the root of runs: what can be computed again
DEMO = "demo"  # names the demo data set in place of a folder
DEMO_MODEL = "demo-model"  # names the ready-made model in place of a run or checkpoint


def project_root() -> Path:
    """The folder that contains ``app.py``."""
    return Path(__file__).resolve().parents[1]


def checkpoints_root(chosen: str | None = None) -> Path:
    """Folder of runs and index: the argument, ``SEGMENTARIUM_CHECKPOINTS``, or ``checkpoints/`` of the project."""
    return _folder(chosen, "SEGMENTARIUM_CHECKPOINTS", "checkpoints")


def cache_folder() -> Path:
    """Folder of what can be computed again: decoded and prepared images, reports, volumes for the browser."""
    return checkpoints_root() / CACHE


def data_root(chosen: str | None = None) -> Path:
    """Folder of data sets: the argument, ``SEGMENTARIUM_DATA``, or ``data/`` of the project."""
    return _folder(chosen, "SEGMENTARIUM_DATA", "data")


def settings_root() -> Path:
    """Folder of the settings of data sets: ``SEGMENTARIUM_SETTINGS``, or ``settings/`` in :func:`checkpoints_root`."""
    return absolute_path(os.environ.get("SEGMENTARIUM_SETTINGS") or str(checkpoints_root() / "settings"))


def demo_folder() -> Path:
    """Folder of the demo data set."""
    return data_root() / DEMO


def demo_model_path() -> Path:
    """Checkpoint of the ready-made model. It is part of the project and independent of :func:`checkpoints_root`."""
    return project_root() / "checkpoints" / DEMO_MODEL / "model.safetensors"


def demo_example_folder() -> Path:
    """Files of the demo subject that is shipped with the ready-made model, and of its segmentation by that model."""
    return demo_model_path().parent / "example"


def dataset_folder(data: str) -> Path:
    """Folder for the argument DATA of the command line."""
    return demo_folder() if data == DEMO else absolute_path(data)


def absolute_path(text: str | Path) -> Path:
    """An absolute path of one that a person stated, with ``~`` expanded as in a shell; ``~name`` of an unknown user
    stays unchanged."""
    return Path(os.path.expanduser(text)).absolute()


def _folder(chosen: str | None, variable: str, default: str) -> Path:
    return absolute_path(chosen or os.environ.get(variable) or str(project_root() / default))
