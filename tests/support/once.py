"""Costly fixtures that are made once for all test processes of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.runs.store.process import locked

DONE = ".done"
TIMEOUT_S = 300


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first test process to ask for it fills; the others wait. Tests must not write to it.

    Parameters
    ----------
    factory : TempPathFactory.
    name : str. Name of the folder, unique over the tests.
    make : callable. Fills the folder, which exists and is empty.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each process has a folder of its own in the folder of the run
    folder = base / name
    with locked(base / f".{name}.lock", timeout_s=TIMEOUT_S):
        if not (folder / DONE).exists():
            folder.mkdir()
            make(folder)
            (folder / DONE).touch()
    return folder
