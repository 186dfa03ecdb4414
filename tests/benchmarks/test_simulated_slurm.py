"""Two hundred runs on a simulated Slurm cluster: submitted, asked about in one call, ended and stopped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.many_jobs import NAME, SETTINGS
from benchmarks.simulated_slurm import SimulatedSlurm
from core import runs
from core.presets import preset
from core.runs import engine_poller
from core.runs.engines.registry import get_engine
from core.runs.launch import create_run
from core.runs.store.engine_records import read_engine

GPUS = 4


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedSlurm:
    made = SimulatedSlurm(tmp_path / "bin")
    made.start(GPUS)
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    return made


@pytest.mark.long
def test_two_hundred_queued_runs_cost_one_call_per_interval(
    tmp_path: Path, cluster: SimulatedSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    (root / "engines.toml").write_text(SETTINGS)
    engine = get_engine(root, NAME)
    config = preset("quick").with_values({"path": "demo"})
    folders = [create_run(root, config, engine=NAME) for _ in range(199)]
    engine.submit(folders, "worker")
    engine.submit(folders, "worker")  # again, as after a kill: no job is submitted twice
    alone = create_run(root, config, engine=NAME)
    engine.submit([alone], "worker")
    assert cluster.calls("sbatch") == 2, "199 runs that ask for the same are one array"
    asked = cluster.calls("squeue")
    assert engine_poller.ask(root, engine)
    assert not any(engine_poller.ask(root, engine) for _ in range(50)), "not asked again within the interval"
    assert cluster.calls("squeue") - asked == 1
    states = [run.state for run in runs.list_runs(root)]
    assert sum(state.state == "starting" for state in states) == GPUS
    waiting = [state.message for state in states if state.state == "queued"]
    assert len(waiting) == 200 - GPUS and set(waiting) == {"it waits for free nodes, GPUs or memory"}
    cluster.end(3)
    monkeypatch.setattr(engine_poller, "_is_due", lambda root, engine, idle: True)
    assert engine_poller.ask(root, engine)
    ended = [run for run in runs.list_runs(root) if run.state.state == "failed"]
    assert len(ended) == 3 and all("did not report how" in run.state.message for run in ended)
    runs.request_stop(root, alone.name)
    record = read_engine(alone)
    assert record is not None and engine.status_many([record.job])[record.job].cancelled
