"""Where things are kept unless somebody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

DEMO = "demo"  # names the demo data set wherever a data set's folder is asked for


def project_root() -> Path:
    """The folder that holds ``app.py``."""
    return Path(__file__).resolve().parents[1]


def checkpoints_root(chosen: str | None = None) -> Path:
    """The folder of runs and index: what was chosen, else ``SEGMENTARIUM_CHECKPOINTS``, else ``checkpoints/`` here."""
    return _folder(chosen, "SEGMENTARIUM_CHECKPOINTS", "checkpoints")


def data_root(chosen: str | None = None) -> Path:
    """The folder in which data sets are looked for: what was chosen, else ``SEGMENTARIUM_DATA``, else ``data/`` here."""
    return _folder(chosen, "SEGMENTARIUM_DATA", "data")


def demo_folder() -> Path:
    """Where the demo data set is made."""
    return data_root() / DEMO


def dataset_folder(data: str) -> Path:
    """The folder that DATA on the command line means."""
    return demo_folder() if data == DEMO else Path(data).expanduser().absolute()


def _folder(chosen: str | None, variable: str, default: str) -> Path:
    return Path(chosen or os.environ.get(variable) or project_root() / default).expanduser().absolute()
