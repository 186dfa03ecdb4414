"""Faults with real processes and real signals; at the end a table says what became of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from core import runs
from core.config import TrainConfig
from core.runs.process import kill_tree
from tests.core.balls import tiny, write_balls

PATIENCE_S = 120
OUTCOMES = {"passed": "held", "failed": "FAILED", "skipped": "not tried"}

_table: dict[tuple[int, str], tuple[str, float]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the worst outcome and the time of each fault."""
    fault: Any = dict(report.user_properties).get("fault")
    if fault is None or (report.when != "call" and report.outcome == "passed"):
        return
    number, what = int(fault[0]), str(fault[1])
    before, seconds = _table.get((number, what), ("passed", 0.0))
    worst = report.outcome if before == "passed" else before
    _table[(number, what)] = (worst, seconds + report.duration)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The marker's text goes along with the report."""
    marker = item.get_closest_marker("fault")
    if marker is not None:
        item.user_properties.append(("fault", (marker.args[0], marker.args[1])))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table."""
    if _table:
        terminalreporter.section("faults")
        for (number, what), (outcome, seconds) in sorted(_table.items()):
            terminalreporter.write_line(f"{number:>3}  {OUTCOMES[outcome]:<9}  {seconds:>6.1f} s  {what}")


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
        return tiny(**{"path": str(data), "whole_every": 0, "threads": 1, **values})

    return make


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
