"""Runs on a real cluster, watched as the page watches them: by the last answer of the engine, and by the folder."""

from __future__ import annotations

from pathlib import Path

import psutil

from core import runs
from core.config import TrainConfig
from core.presets import preset
from core.runs import engine_poller
from core.runs.engines.registry import get_engine
from core.runs.store.engine_records import EngineRecord, read_engine
from core.runs.store.state import read_state
from tests.support.watching import TOY, processes_of, wait_until


def toy(epochs: int = 10_000, device: str = "cpu", devices: int = 1) -> TrainConfig:
    """Configuration of a run that trains nothing."""
    fields = {"path": "demo", "epochs": epochs, "minutes": 0, "device": device, "devices": devices}
    return preset("quick").with_values(fields)


def submit(root: Path, engine: str, epochs: int = 10_000) -> str:
    """Submit such a run to an engine; returns its id."""
    return runs.submit(root, toy(epochs), worker=TOY, engine=engine)


def record_of(root: Path, run_id: str) -> EngineRecord:
    """The engine and job of a run."""
    record = read_engine(root / run_id)
    assert record is not None
    return record


def seen(root: Path, run_id: str) -> runs.RunState:
    """The state of a run as the page shows it."""
    engine_poller.ask_all(root)
    return runs.get_run(root, run_id).state


def wait_for(root: Path, run_id: str, *states: str, timeout_s: float = 120.0) -> runs.RunState:
    """Wait until a run is in one of the states; another final state is an error that shows the output of its job."""

    def reached() -> runs.RunState | None:
        state = seen(root, run_id)
        if state.state in states:
            return state
        job = read_engine(root / run_id)
        output = get_engine(root, job.engine).logs(root / run_id) if job else ""
        assert state.state not in ("failed", "crashed", "finished"), f"{state.state}: {state.message}\n{output}"
        return None

    found: runs.RunState = wait_until(reached, timeout_s, 0.3)
    return found


def wait_for_epoch(root: Path, run_id: str, epoch: int = 1) -> runs.RunState:
    """Wait until a run has trained for some epochs, and still runs."""
    wait_until(lambda: seen(root, run_id).epoch >= epoch, 120, 0.2)
    return wait_for(root, run_id, "running")


def wait_for_written_crash(root: Path, run_id: str) -> runs.RunState:
    """Wait until a run has crashed and the poller has written so, which it does with the next answer of the engine."""

    def written() -> runs.RunState | None:
        engine_poller.ask_all(root)
        state = read_state(root / run_id)
        return state if state.state == "crashed" else None

    found: runs.RunState = wait_until(written, 90, 0.5)
    return found


def trainer_of(folder: Path) -> psutil.Process:
    """The trainer process of a run, on whichever node."""
    (trainer,) = [p for p in processes_of(folder) if p.info["cmdline"][-2:] == [TOY, str(folder)]]
    return trainer
