"""Fixtures of the tests of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.config import TrainConfig
from core.presets import preset
from core.processes import kill_tree
from tests.support.balls import tiny, write_balls
from tests.support.index_rows import end_index_writers
from tests.support.watching import TOYS, processes_of


@pytest.fixture(autouse=True)
def default_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The index is in the checkpoints root; ``SEGMENTARIUM_DATABASE`` is unset."""
    monkeypatch.delenv("SEGMENTARIUM_DATABASE", raising=False)
    yield
    end_index_writers()


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """A small configuration with a data set of six subjects: three folds."""
    return tiny(path=str(write_balls(tmp_path / "balls")))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoints root for runs with the toy trainer; processes left by the test are killed."""
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    folder = tmp_path / "runs"
    folder.mkdir()
    yield folder
    for process in processes_of(folder):
        kill_tree(process.pid)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainConfig]:
    """Sets the behaviour of the toy trainer; returns a configuration for it."""

    def choose(mode: str = "normal", epochs: int = 3, epoch_s: float = 0.05) -> TrainConfig:
        monkeypatch.setenv("TOY", mode)
        monkeypatch.setenv("TOY_EPOCH_S", str(epoch_s))
        return preset("quick").with_values({"path": "demo", "epochs": epochs, "minutes": 0})

    return choose
