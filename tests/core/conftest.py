"""A trained network that tests of prediction share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from core.experiment import train_run
from tests.core.balls import tiny, write_balls


@dataclass(frozen=True)
class BallRun:
    """A data set of balls, and a checkpoint of a network that learned them; never written to."""

    data: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def ball_run(tmp_path_factory: pytest.TempPathFactory) -> BallRun:
    root = tmp_path_factory.mktemp("balls")
    data = write_balls(root / "data")
    (root / "run").mkdir()
    train_run(tiny(path=str(data), epochs=16), root / "run", lambda event: None)
    return BallRun(data, root / "run" / "last.safetensors")
