"""Runs as real processes, ended by real signals: whatever dies, the run's state is the truth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core import runs
from core.config import TrainConfig
from core.errors import ConfigError, DatasetError, RunError
from core.runs.launch import SUPERVISOR_FILE, create_run
from core.runs.store import folder as files
from core.runs.store.process import module_command, module_environment
from core.runs.store.state import read_state, write_state
from tests.support.watching import (
    PATIENCE_S,
    TOY,
    start_shim,
    state,
    supervisor_pid,
    wait_for,
    wait_for_epoch,
    wait_until,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


def test_a_submitted_run_finishes_with_everything_in_its_folder(root: Path, toy: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, toy(), "first", worker=TOY)
    done = wait_for(root, run_id, "finished")
    assert (done.epoch, done.epochs, done.step, done.message) == (3, 3, 30, "")
    assert done.best == runs.Best(3, 1.0, "sub-volumes")
    assert done.classes == ("air", "CSF", "GM")
    folder = root / run_id
    exit_record = wait_until(lambda: (folder / files.EXIT).is_file() and files.read_json(folder / files.EXIT))
    assert (exit_record["returncode"], exit_record["signal"]) == (0, None)
    assert list((folder / files.TENSORBOARD).glob("events.out.tfevents.*"))
    assert "finished after epoch 3" in runs.log_tail(root, run_id)
    rows = runs.metrics_after(root, run_id)
    assert [r.value for r in rows if r.name == "train/loss"] == [1, 1 / 2, 1 / 3]
    assert [r.id for r in runs.metrics_after(root, run_id, rows[4].id)] == [r.id for r in rows[5:]]


def test_a_killed_trainer_is_a_crash_with_its_signal(root: Path, toy: Callable[..., TrainConfig]) -> None:
    folder = create_run(root, toy(epochs=1000, epoch_s=0.2))
    start_shim(folder)
    running = wait_for_epoch(root, folder.name)
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    crashed = wait_for(root, folder.name, "crashed")
    assert "SIGKILL" in crashed.message
    assert "memory" in crashed.message
    assert crashed.ended_at is not None
    wait_until(lambda: files.read_json(folder / files.STATE)["state"] == "crashed")  # the shim wrote it down, too
    assert files.read_json(folder / files.EXIT)["signal"] == "SIGKILL"


def test_a_killed_trainer_is_a_crash_even_when_its_shim_was_killed_before(
    root: Path, toy: Callable[..., TrainConfig]
) -> None:
    folder = create_run(root, toy(epochs=1000, epoch_s=0.2))
    start_shim(folder)
    running = wait_for_epoch(root, folder.name)
    assert running.pid is not None and running.shim_pid is not None
    os.kill(running.shim_pid, signal.SIGKILL)
    wait_until(lambda: runs.get_run(root, folder.name).state.epoch > running.epoch)  # the trainer did not notice
    os.kill(running.pid, signal.SIGKILL)
    crashed = wait_for(root, folder.name, "crashed")
    assert "not known" in crashed.message
    assert not (folder / files.EXIT).exists()


def test_a_run_outlives_its_supervisor_and_the_next_one_takes_the_queue_over(
    root: Path, toy: Callable[..., TrainConfig]
) -> None:
    config = toy(epochs=8, epoch_s=0.25)
    first, second = (runs.submit(root, config, name, worker=TOY) for name in ("first", "second"))
    wait_for_epoch(root, first)
    os.kill(supervisor_pid(root), signal.SIGKILL)
    wait_until(lambda: not runs.supervisor_alive(root))
    assert state(root, first) == "running"
    wait_for(root, first, "finished")
    wait_until(lambda: (root / first / files.EXIT).is_file())
    wait_for(root, second, "finished")  # the first one's shim saw that nobody kept the queue
    assert runs.get_run(root, second).state.attempt == 1


def test_the_supervisor_writes_down_what_nobody_else_could(root: Path, toy: Callable[..., TrainConfig]) -> None:
    run_id = runs.submit(root, toy(epochs=1000, epoch_s=0.2), worker=TOY)
    running = wait_for_epoch(root, run_id)
    assert running.pid is not None and running.shim_pid is not None
    for pid in (running.shim_pid, running.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: files.read_json(root / run_id / files.STATE)["state"] == "crashed")


def test_a_queued_run_waits_for_one_in_a_terminal(root: Path, toy: Callable[..., TrainConfig]) -> None:
    config = toy(epochs=1)
    terminal = create_run(root, config, foreground=True)  # this very process is its shim
    queued = runs.submit(root, config, worker=TOY)
    supervisor_pid(root)
    time.sleep(1.5)  # longer than the supervisor takes to look again
    assert state(root, queued) == "queued"
    write_state(terminal, replace(read_state(terminal), state="finished"))
    wait_for(root, queued, "finished")


def test_two_submitted_at_once_run_one_after_the_other(root: Path, toy: Callable[..., TrainConfig]) -> None:
    toy(epochs=4, epoch_s=0.2)
    code = (
        "import sys; from pathlib import Path; from core import runs; from core.presets import preset;"
        "c = preset('quick').with_values({'path': 'demo', 'epochs': 4, 'minutes': 0});"
        f"print(runs.submit(Path({str(root)!r}), c, worker={TOY!r}))"
    )
    submitting = [
        subprocess.Popen([sys.executable, "-c", code], env=module_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ids = [process.communicate(timeout=PATIENCE_S)[0].strip() for process in submitting]
    assert len(set(ids)) == 2
    seen = set()

    def both_finished() -> bool:
        states = [run.state.state for run in runs.list_runs(root)]
        seen.add(tuple(sorted(states)))
        assert sum(s in runs.ACTIVE for s in states) <= 1
        return states == ["finished", "finished"]

    wait_until(both_finished)
    assert ("queued", "running") in seen
    times = sorted((run.state.started_at or 0, run.state.ended_at or 0) for run in runs.list_runs(root))
    assert 0 < times[0][1] <= times[1][0]
    assert all(run.state.attempt == 1 for run in runs.list_runs(root))


def test_stop_saves_and_resume_goes_on_in_the_same_folder(
    root: Path, toy: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = runs.submit(root, toy(epochs=6, epoch_s=0.5), worker=TOY)
    wait_for_epoch(root, run_id)
    assert runs.request_stop(root, run_id).state == "stopping"
    stopped = wait_for(root, run_id, "stopped")
    assert 1 <= stopped.epoch < 6
    with pytest.raises(RunError, match="stopped already"):
        runs.request_stop(root, run_id)
    runs.resume(root, run_id, worker=TOY)
    finished = wait_for(root, run_id, "finished")
    assert finished.attempt == 2
    epochs = [r.epoch for r in files.read_metrics(root / run_id) if r.name == "lr"]
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert [r.epoch for r in runs.metrics_after(root, run_id) if r.name == "lr"] == epochs
    with pytest.raises(RunError, match=r"finished and cannot be resumed.*--init-from"):
        runs.resume(root, run_id, worker=TOY)


def test_asking_twice_to_stop_changes_nothing_and_stopping_now_kills(
    root: Path, toy: Callable[..., TrainConfig]
) -> None:
    run_id = runs.submit(root, toy("deaf", epochs=1000, epoch_s=0.1), worker=TOY)
    wait_for_epoch(root, run_id)
    for _ in range(2):
        assert runs.request_stop(root, run_id).state == "stopping"
    with pytest.raises(RunError, match="stop it first"):
        runs.delete(root, run_id)
    with pytest.raises(RunError, match="it is stopping"):
        runs.resume(root, run_id, worker=TOY)
    runs.request_stop(root, run_id, now=True)
    stopped = wait_for(root, run_id, "stopped", "crashed")
    assert (stopped.state, stopped.message[:21]) == ("stopped", "ended at once on requ")


def test_a_waiting_run_is_stopped_without_ever_starting(root: Path, toy: Callable[..., TrainConfig]) -> None:
    first = runs.submit(root, toy(epochs=1000), worker=TOY)
    wait_for_epoch(root, first)
    second = runs.submit(root, toy(), worker=TOY)
    assert runs.request_stop(root, second).state == "stopped"
    runs.request_stop(root, first)
    wait_for(root, first, "stopped")
    time.sleep(1.5)  # longer than the supervisor takes to look again
    assert runs.get_run(root, second).state.attempt == 0


@pytest.mark.parametrize(
    ("mode", "ends", "message"),
    [
        ("badly", "failed", "expected a label for subject 3, got none; add it"),
        ("buggy", "failed", "KeyError: 'a bug'"),
        ("exit", "crashed", "its process exited with status 7 without saying why; see log.txt"),
        ("segv", "crashed", "its process died of SIGSEGV: a fault in native code; log.txt may show where"),
    ],
)
def test_how_a_run_ends_badly(
    root: Path, toy: Callable[..., TrainConfig], mode: str, ends: str, message: str
) -> None:  # fmt: skip
    folder = create_run(root, toy(mode))
    start_shim(folder)
    ended = wait_for(root, folder.name, "failed", "crashed", "finished")
    assert (ended.state, ended.message) == (ends, message)
    assert ("Traceback" in runs.log_tail(root, folder.name)) == (mode == "buggy")


def test_a_trainer_that_cannot_start_is_a_crash_with_its_words_in_the_log(
    root: Path, toy: Callable[..., TrainConfig]
) -> None:
    run_id = runs.submit(root, toy(), worker="no_such_module")
    crashed = wait_for(root, run_id, "crashed")
    assert "exited with status 1" in crashed.message
    assert "no_such_module" in runs.log_tail(root, run_id)


def test_a_run_that_somebody_took_is_not_started_twice(root: Path, toy: Callable[..., TrainConfig]) -> None:
    folder = create_run(root, toy(epochs=1000))
    start_shim(folder)
    wait_for_epoch(root, folder.name)
    start_shim(folder)
    wait_until(lambda: "not started: " in runs.log_tail(root, folder.name))
    assert runs.get_run(root, folder.name).state.attempt == 1


def test_a_supervisor_without_work_leaves_and_a_second_one_leaves_at_once(root: Path) -> None:
    command = module_command("core.runs.processes.queue_supervisor", str(root), "--idle", "1000")
    keeper = subprocess.Popen(command, env=module_environment())
    assert supervisor_pid(root) == keeper.pid
    assert subprocess.run(command, env=module_environment(), timeout=PATIENCE_S).returncode == 0
    keeper.kill()
    keeper.wait()
    command[-1] = "0.1"
    assert subprocess.run(command, env=module_environment(), timeout=PATIENCE_S).returncode == 0
    assert not (root / SUPERVISOR_FILE).exists()


def test_what_can_be_known_to_be_wrong_makes_no_run(root: Path, toy: Callable[..., TrainConfig]) -> None:
    config = toy()
    with pytest.raises(ConfigError, match="DATA: expected the folder"):
        runs.submit(root, config.with_values({"path": ""}), worker=TOY)
    with pytest.raises(DatasetError, match="nowhere"):
        runs.submit(root, config.with_values({"path": str(root / "nowhere")}), worker=TOY)
    with pytest.raises(RunError, match="init_from: expected a checkpoint file or a run"):
        runs.submit(root, config.with_values({"init_from": "nobody"}), worker=TOY)
    with pytest.raises(RunError, match="name: expected at most 80"):
        runs.submit(root, config, "x" * 81, worker=TOY)
    assert runs.list_runs(root) == []


def test_fine_tuning_from_a_run_means_its_best_checkpoint(root: Path, toy: Callable[..., TrainConfig]) -> None:
    config = toy()
    source = create_run(root, config, "source")
    with pytest.raises(RunError, match="has no checkpoint yet"):
        runs.submit(root, config.with_values({"init_from": "source"}), worker=TOY)
    (source / files.LAST).write_text("1")
    (source / files.BEST).write_text("1")
    runs.request_stop(root, source.name)
    run_id = runs.submit(root, config.with_values({"init_from": "source"}), worker=TOY)
    assert runs.get_run(root, run_id).config.run.init_from == str(source / files.BEST)
