"""What tests of core share: a trained network, and a small checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from core.checkpointing.checkpoint import save
from core.training.experiment import train_run
from tests.support.balls import tiny, write_balls
from tests.support.checkpoint_files import trained
from tests.support.once import made_once


@dataclass(frozen=True)
class BallRun:
    """A data set of balls, and a checkpoint of a network that learned them; never written to."""

    data: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def ball_run(tmp_path_factory: pytest.TempPathFactory) -> BallRun:
    def train(root: Path) -> None:
        data = write_balls(root / "data")
        (root / "run").mkdir()
        train_run(tiny(path=str(data), epochs=16), root / "run", lambda event: None)

    root = made_once(tmp_path_factory, "ball-run", train)
    return BallRun(root / "data", root / "run" / "last.safetensors")


@pytest.fixture(scope="module")
def checkpoint_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of a network that took one step."""
    path = tmp_path_factory.mktemp("saved") / "last.safetensors"
    save(path, trained())
    return path.read_bytes()


@pytest.fixture
def saved(checkpoint_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "last.safetensors"
    path.write_bytes(checkpoint_bytes)
    return path


@pytest.fixture
def own_decoded_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of decoded images."""
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(tmp_path_factory.mktemp("runs")))
