"""Runs on several devices: a trainer or the launcher is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from core import runs
from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import LAST
from core.config import TrainConfig
from core.runs.store import metrics_file
from core.runs.store.process import is_alive
from tests.support.watching import processes_of, trainers, wait_for, wait_for_step, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]
WORKER = "core.runs.processes.worker"
STEPS_PER_EPOCH = 16
Config = Callable[..., TrainConfig]


@pytest.mark.long(40)
@pytest.mark.fault(17, "one of two trainers killed: replaced, training continues from the checkpoint")
def test_killed_trainer_of_two_is_restarted_from_the_checkpoint(root: Path, config: Config) -> None:
    samples = STEPS_PER_EPOCH * 2 * 2  # batch size 2 on 2 devices
    run_id = runs.submit(root, config(devices=2, epochs=10**5, samples_train=samples, checkpoint_minutes=0.01))
    folder = root / run_id
    before = wait_for_step(root, run_id, 20)
    for restarts, rank in enumerate((1, 0), 1):
        pair = trainers(folder, WORKER)
        assert len(pair) == 2
        pair[rank].kill()
        wait_until(lambda: f"({restarts} of at most" in runs.log_tail(root, run_id, 1000))  # noqa: B023
        after = wait_for_step(root, run_id, before.step + STEPS_PER_EPOCH)
        assert (after.pid, after.attempt) == (before.pid, 1)
        before = after
    runs.request_stop(root, run_id)
    done = wait_for(root, run_id, "stopped")
    steps = [row.step for row in metrics_file.read_metrics(folder) if row.name == "val/loss"]
    assert steps == list(range(STEPS_PER_EPOCH, steps[-1] + 1, STEPS_PER_EPOCH)), "an epoch measured not exactly once"
    assert done.step - STEPS_PER_EPOCH <= steps[-1] <= done.step
    wait_until(lambda: not processes_of(folder))


@pytest.mark.long(30)
@pytest.mark.fault(17, "the launcher of two trainers killed: crashed, no orphan after 5 s, resumable")
def test_killed_launcher_leaves_no_orphan_and_a_checkpoint_to_resume_from(root: Path, config: Config) -> None:
    run_id = runs.submit(root, config(devices=2, epochs=10**5, checkpoint_minutes=0.01))
    state = wait_for_step(root, run_id, 10)
    pair = trainers(root / run_id, WORKER)
    assert state.pid is not None and len(pair) == 2
    os.kill(state.pid, signal.SIGKILL)
    assert "SIGKILL" in wait_for(root, run_id, "crashed", timeout_s=5).message
    wait_until(lambda: not any(process.is_running() for process in pair), timeout_s=5)
    assert load(root / run_id / LAST, training_state=True).metadata.progress["step"] > 0
    runs.resume(root, run_id)
    resumed = wait_for_step(root, run_id, state.step + 1)
    assert resumed.attempt == 2 and is_alive(resumed.pid, resumed.pid_start)
