"""The run queue: supervisor killed, stop requests at any time, several starts at once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from core import runs
from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import LAST
from core.config import TrainConfig
from core.presets import preset
from core.processes import PROJECT, module_environment
from tests.support.watching import TOY, TOYS, processes_of, supervisor_pid, wait_for, wait_for_step, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]
Config = Callable[..., TrainConfig]


@pytest.fixture
def toy(root: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A configuration for the toy trainer; the queue does not depend on the trainer."""
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.setenv("TOY_EPOCH_S", "0.1")
    return preset("quick").with_values({"path": "demo", "epochs": 10**5, "minutes": 0})


@pytest.mark.long
@pytest.mark.fault(7, "supervisor killed: the run continues, is taken over, no run starts twice, no orphan")
def test_killed_supervisor_is_replaced_and_starts_no_run_twice(root: Path, toy: TrainConfig) -> None:
    first = runs.submit(root, toy, worker=TOY)
    second = runs.submit(root, toy.with_values({"epochs": 1}), worker=TOY)
    running = wait_for_step(root, first, 10)
    os.kill(supervisor_pid(root), signal.SIGKILL)
    wait_until(lambda: not runs.supervisor_alive(root))
    runs.ensure_supervisor(root, TOY)
    wait_until(lambda: runs.supervisor_alive(root))
    after = wait_for_step(root, first, running.step + 1)
    assert (after.pid, after.attempt) == (running.pid, 1)
    assert runs.get_run(root, second).state.state == "queued"
    runs.request_stop(root, first)
    wait_for(root, first, "stopped")
    wait_for(root, second, "finished")
    assert [runs.get_run(root, run_id).state.attempt for run_id in (first, second)] == [1, 1]
    wait_until(lambda: not processes_of(root / first) and not processes_of(root / second))


@pytest.mark.long
@pytest.mark.fault(8, "stop, stop twice, stop while queued: no process left, checkpoint kept, resumable")
def test_run_is_stopped_in_any_state_and_resumed(root: Path, config: Config) -> None:
    first, second = (runs.submit(root, config(epochs=10**5), name) for name in ("first", "second"))
    state = wait_for_step(root, first, 3)
    runs.request_stop(root, second)
    assert runs.get_run(root, second).state.state == "stopped"
    for _ in range(2):
        runs.request_stop(root, first)
    stopped = wait_for(root, first, "stopped", timeout_s=20)
    assert state.pid is not None and state.shim_pid is not None
    wait_until(lambda: not processes_of(root / first))
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in (state.pid, state.shim_pid) if pid))
    assert load(root / first / LAST).metadata.progress["step"] == stopped.step
    runs.resume(root, first)
    wait_for_step(root, first, stopped.step + 1)
    runs.request_stop(root, first, now=True)
    wait_for(root, first, "stopped", timeout_s=10)
    assert not (root / second / LAST).exists()


@pytest.mark.long
@pytest.mark.fault(15, "two starts at once: one run per slot")
def test_runs_submitted_at_the_same_time_share_one_slot(root: Path, toy: TrainConfig) -> None:
    values = json.dumps(toy.with_values({"epochs": 3}).to_json())
    program = (
        "import json, sys; from pathlib import Path; from core import runs; from core.config import TrainConfig; "
        "config = TrainConfig.from_json(json.loads(sys.argv[2])); "
        "print(runs.submit(Path(sys.argv[1]), config, worker=sys.argv[3]))"
    )
    command = [sys.executable, "-c", program, str(root), values, TOY]
    started = [
        subprocess.Popen(command, cwd=PROJECT, env=module_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ids = [process.communicate(timeout=60)[0].strip() for process in started]
    assert len(set(ids)) == 3
    active_counts = set()

    def all_finished() -> bool:
        states = [runs.get_run(root, run_id).state for run_id in ids]
        assert not [state for state in states if state.state in ("failed", "crashed")]
        active_counts.add(sum(state.active for state in states))
        return all(state.state == "finished" for state in states)

    wait_until(all_finished)
    assert max(active_counts) == 1, "two runs on one slot"
    times = sorted((run.state.started_at or 0, run.state.ended_at or 0) for run in runs.list_runs(root))
    assert all(ended <= started for (_, ended), (started, _) in itertools.pairwise(times)), "runs overlap"
    assert [runs.get_run(root, run_id).state.attempt for run_id in ids] == [1, 1, 1]
