"""Runs on several devices as real processes: trainers are started, stopped, restarted and given up together."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core import runs
from core.config import TrainConfig
from core.processes import module_command
from core.runs.processes.torchrun_launcher import MAX_RESTARTS
from core.runs.store import folder as files
from tests.support.watching import TOY, processes_of, trainers, wait_for, wait_for_epoch, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]


@pytest.fixture
def two_devices(toy: Callable[..., TrainConfig]) -> Callable[..., TrainConfig]:
    """As ``toy``, on two devices."""
    return lambda *args, **values: toy(*args, **values).with_values({"devices": 2, "device": "cpu"})


def test_two_trainers_finish_and_only_rank_0_records(root: Path, two_devices: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, two_devices(), worker=TOY)
    done = wait_for(root, run_id, "finished")
    assert (done.epoch, done.step, done.attempt) == (3, 30, 1)
    assert [r.value for r in runs.metrics_after(root, run_id) if r.name == "train/loss"] == [1, 1 / 2, 1 / 3]
    wait_until(lambda: not processes_of(root / run_id))


@pytest.mark.long
def test_killed_trainer_is_restarted(root: Path, two_devices: Callable[..., TrainConfig]) -> None:
    """Here the second one; each of two that train: tests/faults/test_several_devices.py."""
    run_id = runs.submit(root, two_devices(epochs=1000, epoch_s=0.2), worker=TOY)
    before = wait_for_epoch(root, run_id)
    first = trainers(root / run_id, TOY)
    assert len(first) == 2
    first[1].kill()
    wait_until(
        lambda: len(now := trainers(root / run_id, TOY)) == 2 and not {p.pid for p in now} & {p.pid for p in first}
    )
    after = wait_until(lambda: (s := runs.get_run(root, run_id).state).epoch > before.epoch + 1 and s)
    assert (after.state, after.attempt, after.pid) == ("running", 1, before.pid)
    assert f"restarted (1 of at most {MAX_RESTARTS} times)" in runs.log_tail(root, run_id)
    runs.request_stop(root, run_id)
    wait_for(root, run_id, "stopped")
    wait_until(lambda: not processes_of(root / run_id))


@pytest.mark.long
def test_no_process_is_left_if_the_launcher_is_killed(root: Path, two_devices: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, two_devices("unstoppable", epochs=1000, epoch_s=0.2), worker=TOY)
    running = wait_for_epoch(root, run_id)
    assert running.pid is not None and running.pid not in {p.pid for p in trainers(root / run_id, TOY)}
    os.kill(running.pid, signal.SIGKILL)
    assert "SIGKILL" in wait_for(root, run_id, "crashed").message
    wait_until(lambda: not processes_of(root / run_id))


@pytest.mark.long
def test_stop_now_kills_all_trainers(root: Path, two_devices: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, two_devices("unstoppable", epochs=1000, epoch_s=0.2), worker=TOY)
    wait_for_epoch(root, run_id)
    runs.request_stop(root, run_id, now=True)
    assert wait_for(root, run_id, "stopped", "crashed").state == "stopped"
    wait_until(lambda: not processes_of(root / run_id))


@pytest.mark.long
@pytest.mark.parametrize(
    ("mode", "message"),
    [("bug", "KeyError"), ("user_error_in_rank_1", "expected a label")],
)
def test_error_in_a_trainer_ends_the_run_without_restarts(
    root: Path, two_devices: Callable[..., TrainConfig], mode: str, message: str
) -> None:
    run_id = runs.submit(root, two_devices(mode, epochs=1000, epoch_s=0.2), worker=TOY)
    failed = wait_for(root, run_id, "failed", "crashed")
    assert failed.state == "failed" and message in failed.message
    wait_until(lambda: not processes_of(root / run_id))
    assert runs.get_run(root, run_id).state == failed


@pytest.mark.long
def test_trainers_that_always_crash_are_not_restarted_again(
    root: Path, two_devices: Callable[..., TrainConfig]
) -> None:
    run_id = runs.submit(root, two_devices("exit"), worker=TOY)
    crashed = wait_for(root, run_id, "crashed")
    assert "see log.txt" in crashed.message
    log = runs.log_tail(root, run_id, 1000)
    assert f"exit status 7 after {MAX_RESTARTS} restarts" in log
    wait_until(lambda: not processes_of(root / run_id))


@pytest.mark.long
def test_ctrl_c_in_a_terminal_stops_all_trainers(
    root: Path, two_devices: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    two_devices(epochs=1000, epoch_s=0.2)  # sets the environment
    command = module_command("toy_commands", "train", "demo", "--checkpoints", str(root))
    options = ["--preset", "quick", "--epochs", "1000", "--minutes", "0", "--device", "cpu", "--devices", "2"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        wait_for_epoch(root, run_id)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    assert wait_for(root, run_id, "stopped").message == ""
    wait_until(lambda: not processes_of(root / run_id))


@pytest.mark.long
def test_killed_command_ends_all_trainers(root: Path, two_devices: Callable[..., TrainConfig]) -> None:
    two_devices("unstoppable", epochs=1000, epoch_s=0.2)
    command = module_command("toy_commands", "train", "demo", "--checkpoints", str(root))
    options = ["--preset", "quick", "--epochs", "1000", "--minutes", "0", "--device", "cpu", "--devices", "2"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        wait_for_epoch(root, run_id)
        process.kill()
    wait_until(lambda: not processes_of(root / run_id))
    wait_for(root, run_id, "crashed")
    assert not (root / run_id / files.EXIT).exists()
