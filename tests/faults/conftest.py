"""Fixtures of the fault tests: a small data set, a checkpoints root, and configurations of real training runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import runs
from core.checkpointing.metadata import PREVIOUS
from core.config import TrainConfig
from core.processes import kill_tree
from tests.support.balls import tiny, write_balls
from tests.support.watching import processes_of, wait_for, wait_until

LARGE_NETWORK = {"channels": (48, 96, 192), "sub_volume": (8, 8, 8), "batch_size": 1}  # its checkpoint takes a while


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of six subjects that a tiny network learns in seconds."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoints root; processes left by the test are killed."""
    monkeypatch.delenv("SEGMENTARIUM_DATABASE", raising=False)
    folder = tmp_path / "runs"
    folder.mkdir()
    yield folder
    for process in processes_of(folder):
        kill_tree(process.pid)


@pytest.fixture(scope="session")
def config(data: Path) -> Callable[..., TrainConfig]:
    """Makes a configuration of a real training run on the data set; an epoch takes a fraction of a second."""

    def make(**values: object) -> TrainConfig:
        return tiny(**{"path": str(data), "whole_every": 0, "threads": 1, **values})

    return make


@pytest.fixture(scope="session")
def stopped_run(config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped run with a large network and two checkpoints, the only run of its root; tests copy it."""
    root = tmp_path_factory.mktemp("stopped")
    sgd = {"optimizer": "sgd", "learning_rate": 1e-3, "lr_schedule": "constant", "clip_norm": 0.0, "ema": 0.0}
    run_id = runs.submit(root, config(epochs=10**5, checkpoint_minutes=0.01, **LARGE_NETWORK, **sgd))
    wait_until(lambda: (root / run_id / PREVIOUS).is_file())
    runs.request_stop(root, run_id)
    wait_for(root, run_id, "stopped")
    wait_until(lambda: not processes_of(root / run_id))
    return root / run_id
