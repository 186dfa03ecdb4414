"""Runs on a real Slurm cluster of two nodes: submitted, watched from here, stopped, killed, restarted.

The root is a folder that this machine and the nodes see; PIDs, host names and boot ids differ, as between machines.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import runs
from core.errors import RunError
from core.runs import engine_poller, groups
from core.runs.engines.engine import EngineError
from core.runs.engines.registry import get_engine
from core.runs.engines.slurm_reasons import ENDED
from core.runs.place import run_place
from core.runs.store import folder as files
from core.runs.store import heartbeat, metrics_file
from core.runs.store.engine_records import EngineRecord, read_engine, write_engine
from core.runs.store.groups import read_group
from core.runs.store.heartbeat import read_beat
from core.runs.store.state import read_state
from core.runs.store.stop_file import SIGNALLED, read_stop
from core.runs.sweeps import submit_sweep
from core.sweeps.settings import SweepOptions, SweepSettings
from core.sweeps.space import parse_space
from tests.support.balls import tiny, write_balls
from tests.support.cluster.cluster_runs import (
    record_of,
    seen,
    submit,
    trainer_of,
    wait_for,
    wait_for_epoch,
    wait_for_written_crash,
)
from tests.support.cluster.machines import TOY_RUNS, started
from tests.support.cluster.slurm_cluster import SlurmCluster, missing_for_slurm
from tests.support.watching import TOY, processes_of, wait_until

pytestmark = [pytest.mark.long, pytest.mark.cluster]

ENGINES = """[gpu]
kind = "slurm"
poll_s = 2
timeout_s = 5
[short]
kind = "slurm"
time = "1"
signal_s = 50
poll_s = 2
[stubborn]
kind = "slurm"
time = "1"
signal_s = 50
poll_s = 2
setup = "export TOY=unstoppable"
[two]
kind = "slurm"
nodes = 2
network = "lo"
poll_s = 2
[held]
kind = "slurm"
extra = ["--hold"]
poll_s = 2
[whole]
kind = "slurm"
extra = ["--exclusive", "--nodelist=n1"]
poll_s = 2
[wrong]
kind = "slurm"
partition = "nope"
poll_s = 2
timeout_s = 4
[big]
kind = "slurm"
constraint = "big"
account = "lab"
setup = 'echo "the shell of the job on $(hostname)"'
poll_s = 2
[busy]
kind = "slurm"
setup = "export TOY=unstoppable"
poll_s = 2
[huge]
kind = "slurm"
constraint = "huge"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with (
        started(SlurmCluster, missing_for_slurm(), TOY_RUNS) as cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])  # for the clients that the program calls
        yield cluster


@pytest.fixture(scope="module")
def root(cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "engines.toml").write_text(ENGINES)
    return folder


@pytest.fixture(scope="module")
def out_of_time(root: Path) -> str:
    """A run whose time limit is a minute, submitted before the other tests take their time."""
    return submit(root, "short")


@pytest.fixture(scope="module")
def late_to_save(root: Path) -> str:
    """A run that has not saved when its time limit is reached, submitted where no later test ends its node."""
    return submit(root, "stubborn")


@pytest.mark.fault(50, "a run on another host: watched, stopped, resumed, never taken for dead")
def test_run_on_a_node_is_watched_stopped_and_resumed_from_here(root: Path, out_of_time: str) -> None:
    run_id = submit(root, "gpu")
    running = wait_for_epoch(root, run_id)
    assert running.host in ("n1", "n2") and not runs.queued_runs(root)

    def place() -> str:
        engine_poller.ask_all(root)
        report = runs.get_run(root, run_id).report
        return "" if report is None else report.place

    wait_until(lambda: place() == running.host, 30, 0.2)  # its heart beats before the cluster is asked again
    for refused in (lambda: runs.delete(root, run_id), lambda: runs.resume(root, run_id, TOY)):
        with pytest.raises(RunError, match="running"):
            refused()
    assert runs.request_stop(root, run_id).state == "stopping"
    stopped = wait_for(root, run_id, "stopped")
    runs.resume(root, run_id, TOY)
    again = wait_for_epoch(root, run_id, stopped.epoch + 1)
    assert again.attempt == 2
    runs.request_stop(root, run_id, now=True)
    wait_for(root, run_id, "stopped")  # by the request, or by the signal of its cancelled job: whichever comes first


@pytest.mark.fault(51, "trainer killed on a node: a crash with its signal, and the job has failed")
def test_killed_trainer_is_a_crash_here_and_a_failure_in_slurm(root: Path, cluster: SlurmCluster) -> None:
    run_id = submit(root, "gpu")
    wait_for_epoch(root, run_id)
    trainer_of(root / run_id).kill()
    wait_until(lambda: seen(root, run_id).state == "crashed")
    assert "SIGKILL" in seen(root, run_id).message
    record = record_of(root, run_id)
    wait_until(lambda: "FAILED" in cluster.client("squeue", "-h", "-t", "all", "-j", record.job, "-o", "%T"), 30, 0.2)


@pytest.mark.fault(52, "power cut of a node: the job is requeued and goes on from its checkpoint")
def test_run_goes_on_from_its_checkpoint_after_a_power_cut(root: Path, cluster: SlurmCluster) -> None:
    run_id = submit(root, "gpu", epochs=60)
    before = wait_for_epoch(root, run_id, 3)
    cluster.power_cut(before.host)
    cluster.boot(before.host)
    states = set()

    def restarted() -> bool:
        state = seen(root, run_id)
        states.add(state.state)
        return state.attempt == 2 and state.state == "running" and state.epoch > before.epoch

    wait_until(restarted, 300, 0.5)  # the node is back before it is missed: its next registration shows the loss
    assert "crashed" not in states and "failed" not in states
    epochs = [row.epoch for row in metrics_file.read_metrics(root / run_id) if row.name == "lr"]
    assert epochs == sorted(set(epochs))

    def reported_restarts() -> int:
        engine_poller.ask_all(root)
        report = runs.get_run(root, run_id).report
        return 0 if report is None else report.restarts

    beat = read_beat(root / run_id)
    assert beat is not None and beat.restart == wait_until(reported_restarts, 30, 0.2) == 1
    place = run_place(runs.get_run(root, run_id))
    assert place.hosts in ("n1", "n2") and place.history == "attempt 2, job restarted once"
    runs.request_stop(root, run_id)
    wait_for(root, run_id, "stopped", "finished")


@pytest.mark.fault(48, "preempted by a job of higher priority: waits, says so, and goes on from its checkpoint")
def test_preempted_run_says_so_and_goes_on_from_its_checkpoint(root: Path, cluster: SlurmCluster) -> None:
    run_id = submit(root, "whole")
    before = wait_for_epoch(root, run_id, 3)
    urgent = ["-p", "urgent", "--exclusive", "--nodelist=n1", "-o", "/dev/null", "--wrap", "sleep 600"]
    job = cluster.client("sbatch", "--parsable", *urgent).strip()
    try:
        states = []

        def waits() -> bool:
            state = seen(root, run_id)
            states.append((state.state, state.message))
            return state.state == "queued"

        wait_until(waits, 60, 0.3)
        assert states[-1][1].startswith("its job was preempted, or its node was shut down, and waits to go on: ")
        for refused in (lambda: runs.resume(root, run_id, TOY), lambda: runs.delete(root, run_id)):
            with pytest.raises(RunError, match="queued"):
                refused()  # there would be a second job, or one without a run
        saved = read_state(root / run_id)
        assert saved.epoch >= before.epoch and (root / run_id / files.LAST).is_file()
    finally:
        cluster.client("scancel", job)
    again = wait_for_epoch(root, run_id, saved.epoch + 1)
    assert again.attempt == 2 and not {"failed", "crashed"} & {state for state, _ in states}
    epochs = [row.epoch for row in metrics_file.read_metrics(root / run_id) if row.name == "lr"]
    assert epochs == sorted(set(epochs)), "none is trained twice"
    runs.request_stop(root, run_id)
    wait_for(root, run_id, "stopped", "finished")


def answers_without_runs(root: Path, name: str) -> bool | None:
    """Whether an engine answers on which nothing runs or waits, as a page shows it."""
    engine_poller.ask(root, get_engine(root, name), idle=True)
    (status,) = [status for status in engine_poller.overview(root) if status.name == name]
    assert not status.runs
    return status.answers


@pytest.mark.fault(53, "controller down: what beats goes on, what waits says so, and nothing waits for it")
def test_controller_that_is_down_ends_nothing_and_delays_no_page(
    root: Path, cluster: SlurmCluster, late_to_save: str
) -> None:
    run_id = submit(root, "gpu")
    wait_for_epoch(root, run_id)
    wait_until(lambda: answers_without_runs(root, "wrong") is True, 30, 0.2)
    cluster.stop_controller()
    try:
        engine_poller.ask(root, get_engine(root, "gpu"))
        wait_until(lambda: engine_poller.ask(root, get_engine(root, "gpu")), 30, 0.5)
        wait_until(lambda: answers_without_runs(root, "wrong") is False, 30, 0.2)
        started = time.monotonic()
        state = runs.get_run(root, run_id).state
        statuses = {status.name: status for status in engine_poller.overview(root)}
        assert time.monotonic() - started < 1.0
        assert state.state == "running" and statuses["gpu"].answers is False
        with pytest.raises(RunError, match="running"):
            runs.delete(root, run_id)
        runs.request_stop(root, run_id)
        wait_until(lambda: read_state(root / run_id).state == "stopped")
    finally:
        cluster.start_controller()
    wait_until(lambda: cluster.client("sinfo", "-h"), 30, 0.2)


@pytest.mark.fault(54, "job cancelled, forgotten or refused: one sentence and what to do")
def test_job_that_is_cancelled_forgotten_or_refused_is_explained(
    root: Path, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match="there is no such partition"):
        submit(root, "wrong")
    held = submit(root, "held")
    wait_until(lambda: "it is held" in seen(root, held).message, 30, 0.3)
    record = record_of(root, held)
    cluster.client("scancel", record.job)
    wait_until(lambda: seen(root, held).state == "stopped", 30, 0.3)
    assert "cancelled in Slurm" in seen(root, held).message
    lost = submit(root, "gpu")
    wait_for_epoch(root, lost)
    record = record_of(root, lost)
    for process in sorted(processes_of(root / lost), key=lambda process: process.pid):
        process.kill()  # without a word from the run: its parent first, then its trainer
    write_engine(root / lost, EngineRecord(record.engine, record.name, None, "999999", record.submitted_at))
    monkeypatch.setattr(heartbeat, "OLD_S", 4.0)
    wait_until(lambda: "does not know its job" in seen(root, lost).message, 60, 0.5)
    wait_until(lambda: seen(root, lost).state == "crashed", 60, 0.5)


@pytest.mark.fault(76, "scancel of a run in training: it saves, is stopped, and says that its job was cancelled")
def test_run_that_is_cancelled_in_slurm_while_it_trains_saves_and_says_so(root: Path, cluster: SlurmCluster) -> None:
    """Its engine also asks for a feature, which one node has, and for an account."""
    run_id = submit(root, "big")
    assert wait_for_epoch(root, run_id).host == "n2"
    job = record_of(root, run_id).job
    assert cluster.client("squeue", "-h", "-j", job, "-o", "%a|%f").strip() == "lab|big"
    cluster.client("scancel", job)
    stopped = wait_for(root, run_id, "stopped")
    wait_until(lambda: seen(root, run_id).message == ENDED["CANCELLED"], 30, 0.2)
    assert read_state(root / run_id).message == ENDED["CANCELLED"], "also where Slurm is asked no more"
    assert stopped.epoch > 0 and (root / run_id / files.LAST).is_file() and read_stop(root / run_id) == SIGNALLED
    output = get_engine(root, "big").logs(root / run_id)
    assert "the shell of the job on n2" in output and "CANCELLED" in output, "both by the shell and by Slurm"
    with pytest.raises(EngineError, match="no node has that feature: change `constraint`"):
        submit(root, "huge")


@pytest.mark.fault(77, "scancel of a run that cannot save in time: crashed, for that reason; what was saved is kept")
def test_run_that_could_not_save_before_it_was_cancelled_says_so(
    root: Path, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = submit(root, "busy")
    wait_for_epoch(root, run_id)
    cluster.client("scancel", record_of(root, run_id).job)
    monkeypatch.setattr(heartbeat, "OLD_S", 4.0)
    crashed = wait_for_written_crash(root, run_id)
    assert "cancelled" in crashed.message, "as Slurm says, or its parent where that lived a moment longer"
    assert crashed.epoch > 0 and (root / run_id / files.LAST).is_file()


def test_folds_are_an_array_that_waits_for_gpus(root: Path, cluster: SlurmCluster, tmp_path: Path) -> None:
    config = tiny(path=str(write_balls(tmp_path / "balls")), folds=5, device="auto", epochs=10_000)
    group = groups.submit_folds(root, config, "folds", TOY, engine="gpu")
    jobs = [record.job for run_id in group.runs if (record := read_engine(root / run_id))]
    assert len({job.partition("_")[0] for job in jobs}) == 1 and [job.partition("_")[2] for job in jobs] == list(
        "01234"
    )
    wait_until(lambda: sum(seen(root, run_id).epoch > 0 for run_id in group.runs) == 4, 120, 0.5)
    (waiting,) = [run_id for run_id in group.runs if seen(root, run_id).state == "queued"]
    wait_until(lambda: "free nodes, GPUs" in seen(root, waiting).message, 30, 0.5)
    assert {read_beat(root / run_id).host for run_id in group.runs if run_id != waiting} == {"n1", "n2"}  # type: ignore[union-attr]
    groups.stop_group(root, group)
    wait_until(lambda: {seen(root, run_id).state for run_id in group.runs} == {"stopped"}, 60, 0.3)


def test_two_nodes_train_the_weights_of_one_machine(root: Path, cluster: SlurmCluster, tmp_path: Path) -> None:
    config = tiny(path=str(write_balls(tmp_path / "balls")), whole_every=0, threads=1, devices=2, epochs=2)
    here = runs.submit(root, config)
    there = runs.submit(root, config, engine="two")
    for run_id in (here, there):
        wait_for(root, run_id, "finished", timeout_s=180)
    from safetensors import safe_open

    weights = []
    for run_id in (here, there):
        with safe_open(root / run_id / files.LAST, "np") as file:
            weights.append({key: file.get_tensor(key).tobytes() for key in file.keys() if key.startswith("model")})  # noqa: SIM118
    assert weights[0] and weights[0] == weights[1]


def test_check_tries_client_controller_and_a_job(root: Path, cluster: SlurmCluster) -> None:
    checks = list(get_engine(root, "gpu").check(root))
    assert all(check.held for check in checks), checks
    assert {"client", "controller", "job", "root", "torch"} <= {check.what for check in checks}
    (refused,) = [check for check in get_engine(root, "wrong").check(root) if not check.held]
    assert refused.what == "partition" and "'nope'" in refused.found


@pytest.mark.fault(55, "time limit of a job: a checkpoint, and the run says that it is out of time")
def test_time_limit_ends_with_a_checkpoint(root: Path, out_of_time: str) -> None:
    stopped = wait_for(root, out_of_time, "stopped", timeout_s=120)
    wait_until(lambda: read_state(root / out_of_time).message.startswith("out of time"), 10)
    assert stopped.epoch > 0 and (root / out_of_time / files.LAST).is_file()


@pytest.mark.fault(73, "time limit of a job before its run has saved: out of time, and not killed on request")
def test_run_that_could_not_save_by_its_time_limit_says_so(
    root: Path, late_to_save: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm sends SIGTERM twice: near the limit, and at it."""
    monkeypatch.setattr(heartbeat, "OLD_S", 4.0)
    crashed = wait_for_written_crash(root, late_to_save)
    assert crashed.message.startswith("out of time") and read_stop(root / late_to_save) == SIGNALLED


def test_trials_of_a_sweep_are_an_array_until_it_is_stopped(root: Path, cluster: SlurmCluster, tmp_path: Path) -> None:
    config = tiny(path=str(write_balls(tmp_path / "balls")), folds=3, device="cpu", epochs=10_000)
    search = parse_space(["learning_rate=1e-3:1e-1:log"])
    group = submit_sweep(root, config, SweepSettings(search, SweepOptions(trials=9, at_once=3), engine="gpu"), "s", TOY)

    def training() -> tuple[str, ...]:
        engine_poller.ask_all(root)
        return tuple(run.id for run in groups.summarise(root, read_group(root, group.id)).runs if run.state.epoch)

    wait_until(lambda: len(training()) == 3, 150, 0.5)
    trials = training()
    jobs = [record_of(root, run).job.partition("_") for run in trials]
    assert len({job for job, _, _ in jobs}) == 1 and [task for *_, task in jobs] == list("012")
    assert {seen(root, run).host for run in trials} <= {"n1", "n2"}
    groups.stop_group(root, group)
    wait_until(lambda: {seen(root, run).state for run in trials} == {"stopped"}, 60, 0.3)
    assert read_group(root, group.id).runs == trials, "no further trial is proposed"
