"""What may happen to a run that several processes train, done to real ones."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from core import runs
from core.config import TrainConfig
from core.runs.store import folder as files
from core.runs.store.process import is_alive
from tests.faults.conftest import processes_of, until, wait_for, wait_for_step

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]
WORKER = "core.runs.processes.worker"
Config = Callable[..., TrainConfig]


def trainers(folder: Path) -> list[psutil.Process]:
    """The processes that train a run, the leader first; those that end while they are looked at are left out."""
    found = []
    for process in processes_of(folder):
        if process.info["cmdline"][-2:] == [WORKER, str(folder)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append((int(process.environ()["RANK"]), process))
    return [process for _, process in sorted(found, key=lambda both: both[0])]


@pytest.mark.fault(17, "one of two trainers killed: replaced, training goes on from the checkpoint, twice")
def test_one_of_two_trainers_is_killed(root: Path, config: Config) -> None:
    run_id = runs.submit(root, config(devices=2, epochs=10**5, samples_train=64, checkpoint_minutes=0.01))
    folder = root / run_id
    before = wait_for_step(root, run_id, 40)
    for number, which in enumerate((1, 0), 1):
        pair = trainers(folder)
        assert len(pair) == 2
        pair[which].kill()
        until(lambda: f"({number} of at most" in runs.log_tail(root, run_id, 1000))  # noqa: B023
        after = wait_for_step(root, run_id, before.step + 20)
        assert (after.pid, after.attempt) == (before.pid, 1)
        before = after
    runs.request_stop(root, run_id)
    done = wait_for(root, run_id, "stopped")
    steps = [row.step for row in files.read_metrics(folder) if row.name == "val/loss"]
    assert steps == list(range(16, steps[-1] + 1, 16)), "each epoch is measured, and none is there twice"
    assert done.step - 16 <= steps[-1] <= done.step
    until(lambda: not processes_of(folder), seconds=5)


@pytest.mark.fault(17, "the launcher of two trainers killed: crashed, no orphan after 5 s, resumable")
def test_the_launcher_is_killed(root: Path, config: Config) -> None:
    run_id = runs.submit(root, config(devices=2, epochs=10**5, checkpoint_minutes=0.01))
    state = wait_for_step(root, run_id, 40)
    orphans = trainers(root / run_id)
    assert state.pid is not None and len(orphans) == 2
    os.kill(state.pid, signal.SIGKILL)
    killed = time.monotonic()
    assert "SIGKILL" in wait_for(root, run_id, "crashed", seconds=5).message
    until(lambda: not any(p.is_running() for p in orphans), seconds=5 - (time.monotonic() - killed))
    runs.resume(root, run_id)
    again = wait_for_step(root, run_id, state.step + 1)
    assert again.attempt == 2 and is_alive(again.pid, again.pid_start)
