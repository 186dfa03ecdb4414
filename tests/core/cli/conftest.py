"""Shared fixtures: a run with a trained checkpoint."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.cli import progress
from core.runs.launch import create_run
from tests.support.balls import tiny, write_balls

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A data set of six subjects."""
    return str(write_balls(tmp_path / "balls"))


@pytest.fixture
def run_id(ball_run: BallRun, checkpoints: Path) -> str:
    """Id of a run named balls with a last checkpoint."""
    folder = create_run(checkpoints, tiny(path=str(ball_run.data)), "balls")
    shutil.copy(ball_run.checkpoint, folder / "last.safetensors")
    return folder.name


@pytest.fixture(autouse=True)
def no_occasional_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error has what commands say, and no lines of progress, which depend on the load of the machine."""
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", math.inf)
