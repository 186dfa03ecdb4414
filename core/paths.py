"""Where things are kept unless somebody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

DEMO = "demo"  # names the demo data set wherever a data set's folder is asked for
DEMO_MODEL = "demo-model"  # names the ready-made model wherever a run or a checkpoint is asked for


def project_root() -> Path:
    """The folder that holds ``app.py``."""
    return Path(__file__).resolve().parents[1]


def checkpoints_root(chosen: str | None = None) -> Path:
    """The folder of runs and index: what was chosen, else ``SEGMENTARIUM_CHECKPOINTS``, else ``checkpoints/`` here."""
    return _folder(chosen, "SEGMENTARIUM_CHECKPOINTS", "checkpoints")


def data_root(chosen: str | None = None) -> Path:
    """The folder in which data sets are looked for: what was chosen, else ``SEGMENTARIUM_DATA``, else ``data/``."""
    return _folder(chosen, "SEGMENTARIUM_DATA", "data")


def demo_folder() -> Path:
    """Where the demo data set is made."""
    return data_root() / DEMO


def demo_model_path() -> Path:
    """The checkpoint of the ready-made model, which comes with the program, whatever the root of runs is."""
    return project_root() / "checkpoints" / DEMO_MODEL / "model.safetensors"


def dataset_folder(data: str) -> Path:
    """The folder that DATA on the command line means."""
    return demo_folder() if data == DEMO else _absolute(data)


def _folder(chosen: str | None, variable: str, default: str) -> Path:
    return _absolute(chosen or os.environ.get(variable) or str(project_root() / default))


def _absolute(text: str) -> Path:
    """``~`` means the home folder, as in a shell; the name of no user stays as it is."""
    return Path(os.path.expanduser(text)).absolute()
