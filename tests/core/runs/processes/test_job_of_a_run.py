"""The trainer's parent as the process of a job: exit status, restarts, signals, requests of other hosts."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from core import runs
from core.compute.cgroups import OomKills
from core.config import TrainConfig
from core.errors import RunError
from core.hosts import host_name
from core.runs.launch import create_run
from core.runs.processes import trainer_parent
from core.runs.processes.engine_job import EngineJob, engine_job
from core.runs.processes.torchrun_launcher import nodes_of_job
from core.runs.processes.trainer_parent import claim_run
from core.runs.store import folder as files
from core.runs.store.engine_records import (
    JOB,
    JOB_ENDS,
    JOB_NAME,
    JOB_NODE,
    JOB_NODE_COUNT,
    JOB_NODES,
    JOB_RENDEZVOUS,
    JOB_RESTART,
    JOB_SIGNAL_S,
    read_engine,
    write_engine,
)
from core.runs.store.heartbeat import read_beat
from core.runs.store.process import is_alive, locked
from core.runs.store.reconciliation import write_reconciled_state
from core.runs.store.state import read_state, write_state
from core.runs.store.stop_file import AT_ONCE, SIGNALLED, STOP, read_stop, write_stop
from tests.support.elsewhere import run_elsewhere, with_job
from tests.support.watching import TOY, start_trainer_parent, wait_for, wait_for_epoch, wait_until


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this process, and those that it starts, the process of a job."""

    def choose(id: str = "7", restart: int = 0, ends: str = "") -> None:
        monkeypatch.setenv(JOB, id)
        monkeypatch.setenv(JOB_RESTART, str(restart))
        monkeypatch.setenv(JOB_ENDS, ends)

    return choose


def test_signal_that_also_ends_the_trainer_at_once_is_noted(root: Path, toy: Callable[..., TrainConfig]) -> None:
    """Slurm signals every process of a job; without the note, the run does not go on when its job is restarted."""
    folder = create_run(root, toy())
    trainer = subprocess.Popen([sys.executable, "-c", ""])
    trainer.wait()
    trainer_parent._wait(trainer, folder, [signal.SIGTERM], 0, EngineJob("7"))
    assert read_stop(folder) == SIGNALLED
    write_stop(folder)  # a person was first
    trainer_parent._wait(trainer, folder, [signal.SIGTERM], 0, EngineJob("7"))
    assert read_stop(folder) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "status"), [("normal", 0), ("user_error", 1), ("exit", 1)])
def test_exit_status_tells_a_scheduler_whether_the_run_failed(
    root: Path, toy: Callable[..., TrainConfig], mode: str, status: int
) -> None:
    folder = create_run(root, toy(mode, epochs=1))
    assert trainer_parent.main([str(folder), "--worker", TOY]) == status


@pytest.mark.slow
def test_signal_to_a_job_saves_a_checkpoint_and_names_the_time_limit(
    root: Path, toy: Callable[..., TrainConfig], job: Callable[..., None]
) -> None:
    job(ends=str(time.time() + 60))
    folder = create_run(root, toy(epochs=1000, epoch_s=0.1))
    with_job(folder, "7")
    parent = start_trainer_parent(folder)
    wait_for_epoch(root, folder.name)
    beat = read_beat(folder)
    assert beat is not None and (beat.host, beat.job) == (host_name(), "7")
    for _ in range(2):  # as Slurm does
        os.kill(parent, signal.SIGTERM)
    stopped = wait_for(root, folder.name, "stopped")
    wait_until(lambda: read_state(folder).message.startswith("out of time"))
    assert stopped.epoch and (folder / files.LAST).is_file() and read_stop(folder) == SIGNALLED
    assert not runs.supervisor_alive(root)  # the environment of a job is not that of the queue


class Trainer:
    """A process that ends after some looks at it; meanwhile a test acts."""

    pid, returncode = 2**22 - 5, -signal.SIGKILL

    def __init__(self, *acts: Callable[[], object]) -> None:
        self.acts = [*acts, lambda: None]

    def wait(self, timeout: float) -> None:
        if self.acts:
            self.acts.pop(0)()
            raise subprocess.TimeoutExpired("", timeout)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """PIDs of the trainers that were killed."""
    found: list[int] = []
    monkeypatch.setattr(trainer_parent, "kill_tree", found.append)
    return found


def wait_for_end(trainer: Trainer, folder: Path, signals: list[int], job: EngineJob) -> bool:
    return trainer_parent._wait(trainer, folder, signals, 0, job)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "job", "at_once"),
    [
        ([signal.SIGTERM] * 3, EngineJob("7"), False),  # near the time limit, at it, and at the end of a grace time
        ([signal.SIGINT] * 2, EngineJob("7"), False),  # no person is at the terminal of a job
        ([signal.SIGTERM] * 2, EngineJob(), False),  # `train` in a batch script of one's own
        ([signal.SIGINT, signal.SIGTERM], EngineJob(), False),
        ([signal.SIGINT] * 2, EngineJob(), True),  # Ctrl-C, again
    ],
)
def test_only_a_second_ctrl_c_kills_a_trainer_that_saves(
    root: Path, killed: list[int], sent: list[int], job: EngineJob, at_once: bool
) -> None:
    folder, signals = run_elsewhere(root), list[int]()
    wait_for_end(Trainer(*(functools.partial(signals.append, number) for number in sent)), folder, signals, job)
    assert bool(killed) is at_once
    assert read_stop(folder) == (AT_ONCE if at_once else SIGNALLED if job.id else "")


def ended(folder: Path, job: EngineJob) -> tuple[str, str]:
    """State and message of a run whose trainer was killed by SIGKILL."""
    nothing = OomKills(None, None)
    trainer_parent._write_exit(folder, 1, Trainer(), nothing, job)  # type: ignore[arg-type]
    state = write_reconciled_state(folder)
    return state.state, state.message


def test_run_that_could_not_save_before_its_time_limit_says_so_and_goes_on_when_its_job_is_restarted(
    root: Path, job: Callable[..., None]
) -> None:
    folder = run_elsewhere(root)
    with_job(folder, "7")
    write_stop(folder, SIGNALLED)
    state, message = ended(folder, EngineJob("7", ends_at=time.time() + 30))
    assert state == "crashed" and message.startswith(
        "out of time: the time limit of its job was reached; it was killed"
    )
    job(restart=1)
    assert claim_run(folder).state == "starting"


def test_trainer_killed_without_a_signal_to_its_job_is_no_time_limit(root: Path) -> None:
    folder = run_elsewhere(root)
    assert "out of time" not in ended(folder, EngineJob("7", ends_at=time.time() + 30))[1]


def test_job_of_an_engine_without_time_limits_ends_its_trainer_at_the_limit(root: Path, killed: list[int]) -> None:
    folder = run_elsewhere(root)
    over = EngineJob("7", ends_at=time.time() - 1, limits_itself=True)
    wait_for_end(Trainer(), folder, [], over)
    assert killed == [Trainer.pid] and read_stop(folder) == SIGNALLED
    assert ended(folder, over)[1].startswith("out of time")
    killed.clear()
    wait_for_end(Trainer(), run_elsewhere(root), [], replace(over, limits_itself=False))
    assert not killed, "Slurm may let a job run beyond its limit"


def test_job_waits_for_the_lock_of_its_run_longer_than_a_page(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def lock(path: Path, timeout_s: float) -> AbstractContextManager[IO[str]]:
        waits.append(timeout_s)
        return locked(path, timeout_s)

    monkeypatch.setattr(files, "locked", lock)
    folder = run_elsewhere(root, "queued")
    claim_run(folder)
    runs.rename(root, folder.name, "page")
    job_s, page_s = waits[0], waits[-1]
    assert job_s >= 60.0 > page_s


@pytest.mark.slow
def test_request_of_another_host_to_end_at_once_kills_the_trainer(root: Path, toy: Callable[..., TrainConfig]) -> None:
    folder = create_run(root, toy("unstoppable", epochs=1000, epoch_s=0.1))
    start_trainer_parent(folder)
    wait_for_epoch(root, folder.name)
    write_stop(folder, AT_ONCE)  # what request_stop does where the PID means nothing
    assert "killed on request" in wait_for(root, folder.name, "stopped").message


@pytest.mark.slow
def test_trainer_of_a_machine_that_comes_back_ends_where_its_run_was_started_again(
    root: Path, toy: Callable[..., TrainConfig]
) -> None:
    folder = create_run(root, toy("unstoppable", epochs=1000, epoch_s=0.1))
    start_trainer_parent(folder)
    wait_for_epoch(root, folder.name)
    old = read_state(folder)

    def ended_after_the_second_start() -> bool:
        write_state(folder, replace(old, attempt=2))
        return not is_alive(old.shim_pid, old.shim_start)

    wait_until(ended_after_the_second_start)
    assert not is_alive(old.pid, old.pid_start) and not (folder / files.EXIT).exists()


def test_run_of_an_engine_is_not_started_by_the_queue_of_a_version_without_engines(root: Path) -> None:
    folder = run_elsewhere(root, "queued")
    with_job(folder, "7")
    with pytest.raises(RunError, match="expected a job of engine"):
        claim_run(folder)


def test_job_that_was_not_cancelled_takes_no_run_that_was_moved_to_the_queue_of_a_host(
    root: Path, job: Callable[..., None]
) -> None:
    folder = run_elsewhere(root, "queued")  # resumed with `--engine local`
    job()
    with pytest.raises(RunError, match="expected the queue of its host to train it, this is job 7"):
        claim_run(folder)
    assert read_state(folder).state == "queued"


@pytest.mark.fault(59, "job of an earlier submission begins while a run is queued again: it does not take the run")
def test_job_of_an_earlier_submission_takes_no_run_that_is_being_submitted_again(
    root: Path, job: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_elsewhere(root, "queued")
    with_job(folder, "")
    record = read_engine(folder)
    assert record is not None
    job("41")
    with pytest.raises(RunError, match=f"expected job {record.name} to train it, this is job 41"):
        claim_run(folder)  # of a version whose jobs have no name in their environment
    monkeypatch.setenv(JOB_NAME, f"{record.name}-earlier")
    with pytest.raises(RunError, match="this is job 41"):
        claim_run(folder)
    job("43")
    monkeypatch.setenv(JOB_NAME, record.name)
    assert claim_run(folder).state == "starting"
    claimed = read_engine(folder)
    assert claimed is not None and claimed.job == "43", "no other job may take it from now on"


def test_job_of_another_cluster_with_the_same_id_takes_no_run(
    root: Path, job: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_elsewhere(root, "queued")
    with_job(folder, "7")
    job("7")
    monkeypatch.setenv(JOB_NAME, "an-earlier-submission-to-another-cluster")
    with pytest.raises(RunError, match="expected job 7 to train it, this is job 7, of another submission"):
        claim_run(folder)


def test_job_takes_no_run_before_its_submission_has_a_name(root: Path, job: Callable[..., None]) -> None:
    folder = run_elsewhere(root, "queued")
    with_job(folder, "")
    record = read_engine(folder)
    assert record is not None
    write_engine(folder, replace(record, name=""))
    job("41")
    with pytest.raises(RunError, match="expected job yet to come to train it"):
        claim_run(folder)


def test_restarted_job_takes_over_the_run_that_it_trained(root: Path, job: Callable[..., None]) -> None:
    folder = run_elsewhere(root)
    with_job(folder, "7")
    job()
    with pytest.raises(RunError, match="expected a queued run, it is running"):
        claim_run(folder)  # the first start of the job: the run is in training
    job("8", restart=1)
    with pytest.raises(RunError, match="expected job 7 to train it, this is job 8"):
        claim_run(folder)
    job(restart=1)
    write_stop(folder, SIGNALLED)  # it was preempted
    state = claim_run(folder)
    assert (state.state, state.attempt, state.host) == ("starting", 2, host_name())
    assert not (folder / STOP).exists()


def test_restarted_job_claims_no_speed_and_time_left_of_the_attempt_before(
    root: Path, job: Callable[..., None]
) -> None:
    folder = run_elsewhere(root)
    with_job(folder)
    write_state(folder, replace(read_state(folder), epoch=7, remaining_s=46.0, sub_volumes_per_s=48.0, done=3, total=9))
    job(restart=1)
    state = claim_run(folder)
    assert (state.state, state.remaining_s, state.sub_volumes_per_s, state.done, state.total) == (
        "starting", None, None, 0, 0,
    )  # fmt: skip
    assert state.epoch == 7, "it goes on from there"


def test_restarted_job_goes_on_with_a_run_that_its_signal_stopped_and_with_no_other(
    root: Path, job: Callable[..., None]
) -> None:
    folder = run_elsewhere(root, "stopped")
    with_job(folder, "7")
    job(restart=1)
    with pytest.raises(RunError, match="it is stopped"):
        claim_run(folder)  # a person stopped it
    files.write_json(folder / files.EXIT, {"attempt": 1, "signalled": True})
    assert claim_run(folder).state == "starting"


def test_restarted_job_stops_a_run_that_a_person_asked_to_stop_meanwhile(root: Path, job: Callable[..., None]) -> None:
    folder = run_elsewhere(root)
    with_job(folder, "7")
    write_stop(folder)
    job(restart=1)
    with pytest.raises(RunError):
        claim_run(folder)
    assert "while its job waited" in read_state(folder).message and read_state(folder).state == "stopped"


def test_signal_long_before_the_time_limit_is_a_preemption() -> None:
    assert "preempted" in EngineJob("7", ends_at=time.time() + 3600).why_signalled()
    assert "preempted" in EngineJob("7").why_signalled()


def test_signal_as_long_before_the_time_limit_as_the_engine_was_asked_to_send_it_is_about_that(
    monkeypatch: pytest.MonkeyPatch, job: Callable[..., None]
) -> None:
    job(ends=str(time.time() + 600))
    monkeypatch.setenv(JOB_SIGNAL_S, "600")
    assert "the time limit of its job was reached" in engine_job().why_signalled()
    monkeypatch.setenv(JOB_SIGNAL_S, "300")
    assert "preempted" in engine_job().why_signalled()
    monkeypatch.delenv(JOB_SIGNAL_S)
    assert "preempted" in engine_job().why_signalled()


def test_nodes_of_a_job_meet_at_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nodes_of_job() is None
    values = {JOB_NODE: "1", JOB_NODE_COUNT: "2", JOB_RENDEZVOUS: "fe80::1:29500", JOB_NODES: json.dumps(["srun"])}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    nodes = nodes_of_job()
    assert nodes is not None and (nodes.address, nodes.port) == ("fe80::1", "29500")
    options = nodes.options()
    assert options[options.index("--node-rank") + 1] == "1" and options[options.index("--nnodes") + 1] == "2"
