"""Real training runs for faults, and how to wait for what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from core import runs
from core.config import TrainConfig
from core.runs.store.process import kill_tree
from tests.support.balls import tiny, write_balls

PATIENCE_S = 120


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects that a tiny network learns in seconds."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root of runs; every process that names it is ended after the test."""
    monkeypatch.delenv("SEGMENTARIUM_DATABASE", raising=False)
    folder = tmp_path / "runs"
    folder.mkdir()
    yield folder
    for process in processes_of(folder):
        kill_tree(process.pid)


@pytest.fixture
def config(data: Path) -> Callable[..., TrainConfig]:
    """A real training run on the six subjects, at most a few seconds an epoch."""

    def make(**values: object) -> TrainConfig:
        return tiny_config(data, **values)

    return make


def tiny_config(data: Path, **values: object) -> TrainConfig:
    return tiny(**{"path": str(data), "whole_every": 0, "threads": 1, **values})


def processes_of(folder: Path) -> list[psutil.Process]:
    """The processes that name a folder in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def until(condition: Callable[[], Any], seconds: float = PATIENCE_S, every: float = 0.02) -> Any:
    """Wait for what a condition gives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"waited in vain for {seconds:.0f} s")


def wait_for(root: Path, run_id: str, *states: str, seconds: float = PATIENCE_S) -> runs.RunState:
    """Wait for one of the states; another final one is an error that shows the log."""

    def there() -> runs.RunState | None:
        state = runs.get_run(root, run_id).state
        if state.state in states:
            return state
        if state.state in ("failed", "crashed", "finished") and state.state not in states:
            raise AssertionError(f"it is {state.state}: {state.message}\n{runs.log_tail(root, run_id)}")
        return None

    found: runs.RunState = until(there, seconds)
    return found


def wait_for_step(root: Path, run_id: str, step: int) -> runs.RunState:
    """Wait until training is beyond a step."""

    def there() -> runs.RunState | None:
        state = runs.get_run(root, run_id).state
        if state.state in ("failed", "crashed"):
            raise AssertionError(f"it is {state.state}: {state.message}\n{runs.log_tail(root, run_id)}")
        return state if state.state == "running" and state.step >= step else None

    found: runs.RunState = until(there)
    return found
