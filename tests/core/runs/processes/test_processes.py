"""Runs as real processes, ended by real signals: the state of a run is correct whichever process dies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from core import runs
from core.compute.priority import JOB_NICENESS, MAX_NICENESS, TRAINER_NICENESS
from core.config import TrainConfig
from core.errors import CheckpointError, ConfigError, DatasetError, RunError
from core.processes import module_command, module_environment
from core.runs.engines.local import supervisor_file
from core.runs.launch import create_run
from core.runs.notify import WEBHOOK
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.state import read_state, write_state
from tests.support.checkpoint_files import write_checkpoint
from tests.support.watching import (
    TIMEOUT_S,
    TOY,
    start_trainer_parent,
    state,
    supervisor_in_this_process,
    supervisor_pid,
    wait_for,
    wait_for_epoch,
    wait_until,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


def priorities(pid: int | None) -> set[int]:
    """Niceness of all threads of a process."""
    return {os.getpriority(os.PRIO_PROCESS, thread.id) for thread in psutil.Process(pid).threads()}


@pytest.mark.slow
def test_submitted_run_finishes_with_all_files(root: Path, toy: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, toy(), "first", worker=TOY)
    done = wait_for(root, run_id, "finished")
    assert (done.epoch, done.epochs, done.step, done.message) == (3, 3, 30, "")
    assert done.best == runs.Best(3, 1.0, "sub-volumes", step=30)
    assert done.classes == ("air", "CSF", "GM")
    folder = root / run_id
    exit_record = wait_until(lambda: (folder / files.EXIT).is_file() and files.read_json(folder / files.EXIT))
    assert (exit_record["returncode"], exit_record["signal"]) == (0, None)
    assert list((folder / files.TENSORBOARD).glob("events.out.tfevents.*"))
    assert "finished after epoch 3" in runs.log_tail(root, run_id)
    rows = runs.metrics_after(root, run_id)
    assert [r.value for r in rows if r.name == "train/loss"] == [1, 1 / 2, 1 / 3]
    assert [r.id for r in runs.metrics_after(root, run_id, rows[4].id)] == [r.id for r in rows[5:]]


@pytest.mark.slow
def test_killed_trainer_is_a_crash_that_names_the_signal(root: Path, toy: Callable[..., TrainConfig]) -> None:
    folder = create_run(root, toy(epochs=1000, epoch_s=0.2))
    start_trainer_parent(folder)
    running = wait_for_epoch(root, folder.name)
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    crashed = wait_for(root, folder.name, "crashed")
    assert "SIGKILL" in crashed.message
    assert "memory" in crashed.message
    assert crashed.ended_at is not None
    wait_until(lambda: files.read_json(folder / files.STATE)["state"] == "crashed")  # written by the parent
    assert files.read_json(folder / files.EXIT)["signal"] == "SIGKILL"


@pytest.mark.slow
def test_trainer_of_a_queued_run_gives_way_to_pages(
    lowered_priorities: None, root: Path, toy: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it prepares, a user waits for the first step: it has the priority of a job."""
    monkeypatch.setenv("TOY_PREPARES_UNTIL", str(root / "prepared"))
    folder = create_run(root, toy(epochs=1000, epoch_s=0.2))
    start_trainer_parent(folder)
    wait_until(lambda: read_state(folder).pid)
    preparing = read_state(folder)
    assert preparing.pid is not None and preparing.shim_pid is not None
    own = os.getpriority(os.PRIO_PROCESS, preparing.shim_pid)
    wait_until(lambda: priorities(preparing.pid) == {min(own + JOB_NICENESS, MAX_NICENESS)})
    (root / "prepared").touch()
    wait_for_epoch(root, folder.name)
    wait_until(lambda: priorities(preparing.pid) == {min(own + TRAINER_NICENESS, MAX_NICENESS)})
    runs.request_stop(root, folder.name)
    wait_for(root, folder.name, "stopped")


@pytest.mark.slow
def test_killed_trainer_is_a_crash_even_if_its_parent_was_killed_before(
    root: Path, toy: Callable[..., TrainConfig]
) -> None:
    folder = create_run(root, toy(epochs=1000, epoch_s=0.2))
    start_trainer_parent(folder)
    running = wait_for_epoch(root, folder.name)
    assert running.pid is not None and running.shim_pid is not None
    os.kill(running.shim_pid, signal.SIGKILL)
    wait_until(lambda: runs.get_run(root, folder.name).state.epoch > running.epoch)  # the trainer continues
    os.kill(running.pid, signal.SIGKILL)
    crashed = wait_for(root, folder.name, "crashed")
    assert "not known" in crashed.message
    assert not (folder / files.EXIT).exists()


@pytest.mark.long
@pytest.mark.slow
def test_run_survives_its_supervisor_and_the_next_one_serves_the_queue(
    root: Path, toy: Callable[..., TrainConfig]
) -> None:
    first = runs.submit(root, toy(epochs=5, epoch_s=0.25), worker=TOY)
    second = runs.submit(root, toy(epochs=1, epoch_s=0.25), worker=TOY)
    wait_for_epoch(root, first)
    os.kill(supervisor_pid(root), signal.SIGKILL)
    wait_until(lambda: not runs.supervisor_alive(root))
    assert state(root, first) == "running"
    wait_for(root, first, "finished")
    wait_until(lambda: (root / first / files.EXIT).is_file())
    wait_for(root, second, "finished")  # the parent of the first one started a new supervisor
    assert runs.get_run(root, second).state.attempt == 1


@pytest.mark.long
@pytest.mark.slow
def test_supervisor_writes_the_crash_of_trainer_and_parent(root: Path, toy: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, toy(epochs=1000, epoch_s=0.2), worker=TOY)
    running = wait_for_epoch(root, run_id)
    assert running.pid is not None and running.shim_pid is not None
    for pid in (running.shim_pid, running.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: files.read_json(root / run_id / files.STATE)["state"] == "crashed")


@pytest.mark.slow
def test_queued_run_waits_for_one_in_a_terminal(root: Path, toy: Callable[..., TrainConfig]) -> None:
    config = toy(epochs=1)
    terminal = create_run(root, config, foreground=True)  # this process is its parent
    queued = create_run(root, config).name
    supervisor = supervisor_in_this_process(root)
    for _ in range(2):
        assert supervisor.poll()
    assert state(root, queued) == "queued" and files.read_log_tail(root / queued, 10) == ""
    write_state(terminal, replace(read_state(terminal), state="finished"))
    supervisor.poll()
    wait_for(root, queued, "finished")


@pytest.mark.slow
def test_stopped_run_is_resumed_in_the_same_folder(root: Path, toy: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, toy(epochs=6, epoch_s=0.2), worker=TOY)
    wait_for_epoch(root, run_id)
    assert runs.request_stop(root, run_id).state == "stopping"
    stopped = wait_for(root, run_id, "stopped")
    assert 1 <= stopped.epoch < 6
    with pytest.raises(RunError, match="stopped already"):
        runs.request_stop(root, run_id)
    runs.resume(root, run_id, worker=TOY)
    finished = wait_for(root, run_id, "finished")
    assert finished.attempt == 2
    epochs = [r.epoch for r in metrics_file.read_metrics(root / run_id) if r.name == "lr"]
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert [r.epoch for r in runs.metrics_after(root, run_id) if r.name == "lr"] == epochs
    with pytest.raises(RunError, match=r"finished and cannot be resumed.*--init-from"):
        runs.resume(root, run_id, worker=TOY)


@pytest.mark.slow
def test_second_stop_request_changes_nothing_and_stop_now_kills(root: Path, toy: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, toy("unstoppable", epochs=1000, epoch_s=0.1), worker=TOY)
    wait_for_epoch(root, run_id)
    for _ in range(2):
        assert runs.request_stop(root, run_id).state == "stopping"
    with pytest.raises(RunError, match="stop it first"):
        runs.delete(root, run_id)
    with pytest.raises(RunError, match="stopping"):
        runs.resume(root, run_id, worker=TOY)
    runs.request_stop(root, run_id, now=True)
    stopped = wait_for(root, run_id, "stopped", "crashed")
    assert stopped.state == "stopped" and "killed on request" in stopped.message


@pytest.mark.slow
def test_queued_run_that_is_stopped_never_starts(root: Path, toy: Callable[..., TrainConfig]) -> None:
    folder = create_run(root, toy())
    assert runs.request_stop(root, folder.name).state == "stopped"
    supervisor = supervisor_in_this_process(root)
    assert not supervisor.poll()
    start_trainer_parent(folder)  # started before the request
    wait_until(lambda: "not started: " in runs.log_tail(root, folder.name))
    assert runs.get_run(root, folder.name).state.attempt == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "ends", "message"),
    [
        ("user_error", "failed", "expected a label for subject 3, got none; add it"),
        ("bug", "failed", "KeyError: 'a bug'"),
        ("exit", "crashed", "status 7"),
        ("segv", "crashed", "SIGSEGV"),
    ],
)
def test_error_and_crash_of_the_trainer_are_distinguished(
    root: Path, toy: Callable[..., TrainConfig], mode: str, ends: str, message: str
) -> None:
    folder = create_run(root, toy(mode))
    start_trainer_parent(folder)
    ended = wait_for(root, folder.name, "failed", "crashed", "finished")
    assert ended.state == ends and message in ended.message and "\n" not in ended.message
    assert ("Traceback" in runs.log_tail(root, folder.name)) == (mode == "bug")


@pytest.mark.slow
def test_trainer_that_cannot_start_is_a_crash_with_its_output_in_the_log_and_a_message(
    root: Path, toy: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK, "no address")
    run_id = runs.submit(root, toy(), worker="no_such_module")
    crashed = wait_for(root, run_id, "crashed")
    assert "status 1" in crashed.message
    assert "no_such_module" in runs.log_tail(root, run_id)
    wait_until(lambda: "note: no message about the end of the run" in runs.log_tail(root, run_id))


@pytest.mark.slow
def test_active_run_is_not_started_twice(root: Path, toy: Callable[..., TrainConfig]) -> None:
    folder = create_run(root, toy(epochs=1000))
    start_trainer_parent(folder)
    wait_for_epoch(root, folder.name)
    start_trainer_parent(folder)
    wait_until(lambda: "not started: " in runs.log_tail(root, folder.name))
    assert runs.get_run(root, folder.name).state.attempt == 1


@pytest.mark.slow
def test_idle_supervisor_exits_and_a_second_one_exits_at_once(root: Path) -> None:
    command = module_command("core.runs.processes.queue_supervisor", str(root), "--idle", "1000")
    first = subprocess.Popen(command, env=module_environment())
    assert supervisor_pid(root) == first.pid
    assert subprocess.run(command, env=module_environment(), timeout=TIMEOUT_S).returncode == 0
    first.kill()
    first.wait()
    command[-1] = "0.1"
    assert subprocess.run(command, env=module_environment(), timeout=TIMEOUT_S).returncode == 0
    assert not supervisor_file(root).exists()


def test_configuration_that_cannot_train_creates_no_run(root: Path, toy: Callable[..., TrainConfig]) -> None:
    config = toy()
    with pytest.raises(ConfigError, match="DATA"):
        runs.submit(root, config.with_values({"path": ""}), worker=TOY)
    with pytest.raises(DatasetError, match="nowhere"):
        runs.submit(root, config.with_values({"path": str(root / "nowhere")}), worker=TOY)
    with pytest.raises(RunError, match=r"init_from.*nobody"):
        runs.submit(root, config.with_values({"init_from": "nobody"}), worker=TOY)
    with pytest.raises(RunError, match=r"name.*80"):
        runs.submit(root, config, "x" * 81, worker=TOY)
    assert runs.list_runs(root) == []


def test_init_from_a_run_resolves_to_its_best_checkpoint(root: Path, toy: Callable[..., TrainConfig]) -> None:
    config = toy()
    source = create_run(root, config, "source")
    with pytest.raises(RunError, match="has no checkpoint yet"):
        runs.submit(root, config.with_values({"init_from": "source"}), worker=TOY)
    (source / files.LAST).write_text("1")
    (source / files.BEST).write_text("1")
    runs.request_stop(root, source.name)
    with pytest.raises(CheckpointError, match=r"best\.safetensors is not a checkpoint"):
        runs.submit(root, config.with_values({"init_from": "source"}), worker=TOY)
    write_checkpoint(source / files.BEST)
    run_id = runs.submit(root, config.with_values({"init_from": "source"}), worker=TOY)
    assert runs.get_run(root, run_id).config.run.init_from == str(source / files.BEST)
