"""Runs on a real Ray cluster of two nodes: submitted, watched from here, stopped, killed, forgotten by a new head.

The root is a folder that this machine and the nodes see; PIDs, host names and boot ids differ, as between machines.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import runs
from core.errors import RunError
from core.runs import engine_poller
from core.runs.engines.engine import EngineError
from core.runs.engines.ray import JOBS
from core.runs.engines.ray_reasons import STOPPED
from core.runs.engines.registry import get_engine
from core.runs.place import RunPlace, run_place
from core.runs.store import folder as files
from core.runs.store import heartbeat
from core.runs.store.engine_records import write_engine
from core.runs.store.state import read_state
from tests.support.cluster.cluster_runs import (
    record_of,
    seen,
    submit,
    toy,
    trainer_of,
    wait_for,
    wait_for_epoch,
    wait_for_written_crash,
)
from tests.support.cluster.machines import TOY_RUNS, started
from tests.support.cluster.ray_cluster import RayCluster, missing_for_ray
from tests.support.watching import TOY, processes_of, wait_until

pytestmark = [pytest.mark.long, pytest.mark.cluster]

# Each node has a resource of its own, "place_r1" or "place_r2", which decides where a run trains.
ENGINES = """[gpu]
kind = "ray"
address = "{address}"
token_file = "{token}"
resources = ["place_r1=0.01"]
setup = "echo the shell of the job"
poll_s = 2
timeout_s = 30
[second]
kind = "ray"
address = "{address}"
token_file = "{token}"
resources = ["place_r2=0.01"]
poll_s = 2
[short]
kind = "ray"
address = "{address}"
token_file = "{token}"
time = "0:01:00"
signal_s = 20
poll_s = 2
[stranger]
kind = "ray"
address = "{address}"
token_file = "{wrong}"
poll_s = 2
[nobody]
kind = "ray"
address = "http://127.0.0.1:9"
token_file = "{token}"
poll_s = 2
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    before = socket.if_nameindex()
    with started(RayCluster, missing_for_ray(), TOY_RUNS) as cluster:
        assert socket.if_nameindex() == before, "its network is its own: changes of this one disturb browsers"
        yield cluster


@pytest.fixture(scope="module")
def root(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "wrong-token").write_text("0123456789abcdef0123456789abcdef")
    settings = {"address": cluster.address, "token": cluster.token, "wrong": folder / "wrong-token"}
    (folder / "engines.toml").write_text(ENGINES.format(**settings))
    return folder


@pytest.fixture(scope="module")
def on_lost_node(root: Path, cluster: RayCluster) -> str:
    """A run whose node loses its power before the other tests take their time."""
    run_id = submit(root, "second")
    assert wait_for_epoch(root, run_id, 3).host == "r2"
    cluster.power_cut("r2")
    return run_id


@pytest.fixture(scope="module")
def out_of_time(root: Path) -> str:
    """A run whose time limit passes while the other tests take their time."""
    return submit(root, "short")


def test_check_tries_token_dashboard_nodes_and_a_job(root: Path, cluster: RayCluster) -> None:
    checks = list(get_engine(root, "gpu").check(root))
    assert all(check.held for check in checks), checks
    assert {"token", "dashboard", "nodes", "job", "root", "torch"} <= {check.what for check in checks}


@pytest.mark.fault(60, "Ray: a run on another host is watched, stopped by its stop file and resumed from here")
def test_run_on_a_node_is_watched_stopped_and_resumed_from_here(
    root: Path, on_lost_node: str, out_of_time: str
) -> None:
    run_id = submit(root, "gpu")
    running = wait_for_epoch(root, run_id)
    assert running.host == "r1" and not runs.queued_runs(root)
    summary = runs.get_run(root, run_id)
    assert summary.report is not None and run_place(summary) == RunPlace("r1", 1, 0)
    for refused in (lambda: runs.delete(root, run_id), lambda: runs.resume(root, run_id, TOY)):
        with pytest.raises(RunError, match="running"):
            refused()
    assert runs.request_stop(root, run_id).state == "stopping"
    stopped = wait_for(root, run_id, "stopped")
    runs.resume(root, run_id, TOY)
    wait_for_epoch(root, run_id, stopped.epoch + 1)
    assert run_place(runs.get_run(root, run_id)) == RunPlace("r1", 2, 0)
    runs.request_stop(root, run_id, now=True)
    wait_for(root, run_id, "stopped")


@pytest.mark.fault(61, "Ray: submission killed before it was noted: its job is found by its name, never doubled")
def test_submission_that_was_not_noted_is_not_submitted_twice(root: Path, cluster: RayCluster) -> None:
    run_id = submit(root, "gpu")
    record = record_of(root, run_id)
    write_engine(root / run_id, type(record)(record.engine, record.name, None, "", record.submitted_at))
    assert get_engine(root, "gpu").find([record]) == [record.name]
    runs.start_queued(root, [run_id], TOY)
    assert record_of(root, run_id).job == record.name
    assert [job["submission_id"] for job in cluster.get(JOBS)].count(record.name) == 1
    wait_for_epoch(root, run_id)
    cluster.post(f"{JOBS}{record.name}/stop")
    wait_for(root, run_id, "stopped")
    wait_until(lambda: seen(root, run_id).message == STOPPED, 20, 0.1)
    assert "the shell of the job" in get_engine(root, "gpu").logs(root / run_id)
    assert (root / run_id / files.LAST).is_file()


@pytest.mark.fault(62, "Ray: trainer killed on a node: a crash with its signal, and the job has failed")
def test_killed_trainer_is_a_crash_here_and_a_failure_in_ray(root: Path, cluster: RayCluster) -> None:
    run_id = submit(root, "gpu")
    wait_for_epoch(root, run_id)
    trainer_of(root / run_id).kill()
    wait_until(lambda: seen(root, run_id).state == "crashed", 60, 0.2)
    assert "SIGKILL" in seen(root, run_id).message
    wait_until(lambda: cluster.get(JOBS + record_of(root, run_id).job)["status"] == "FAILED", 30, 0.2)


def test_runs_wait_for_gpus_and_say_for_how_many(root: Path, on_lost_node: str) -> None:
    def submit_on(devices: int) -> str:
        return runs.submit(root, toy(device="auto", devices=devices), worker=TOY, engine="gpu")

    takes_both = submit_on(2)
    both = wait_for_epoch(root, takes_both)  # Ray does not say which of several jobs begins first
    waits, too_large = submit_on(1), submit_on(3)
    assert runs.get_run(root, takes_both).report.place == f"{both.host}, 2 GPUs"  # type: ignore[union-attr]
    wait_until(lambda: "it waits for 1 processor, 1 GPU" in seen(root, waits).message, 30, 0.3)
    wait_until(lambda: "no node has 3 processors, 3 GPUs" in seen(root, too_large).message, 30, 0.3)
    for run_id in (too_large, takes_both):
        runs.request_stop(root, run_id)
    wait_for(root, takes_both, "stopped")
    wait_for_epoch(root, waits)
    runs.request_stop(root, waits)
    wait_for(root, waits, "stopped")


@pytest.mark.fault(63, "Ray: wrong token, or no dashboard: one sentence and what to do; the run has failed")
def test_wrong_token_and_silent_dashboard_are_explained(root: Path, cluster: RayCluster) -> None:
    with pytest.raises(EngineError, match=r"stranger: it refuses the token of .*wrong-token"):
        submit(root, "stranger")
    with pytest.raises(EngineError, match=r"nobody: its dashboard at http://127.0.0.1:9 does not answer .*address"):
        submit(root, "nobody")
    failed = [run.state for run in runs.list_runs(root) if run.state.state == "failed"]
    assert len(failed) == 2 and any("refuses the token" in state.message for state in failed)
    assert cluster.token.read_text() not in "".join(state.message for state in failed)


@pytest.mark.fault(64, "Ray: time limit of a job: a checkpoint, and the run says that it is out of time")
def test_time_limit_ends_with_a_checkpoint(root: Path, out_of_time: str) -> None:
    wait_for(root, out_of_time, "stopped")
    wait_until(lambda: read_state(root / out_of_time).message.startswith("out of time"), 20, 0.1)
    assert (root / out_of_time / files.LAST).is_file()


@pytest.mark.fault(
    65, "Ray: power cut of a node: unreachable at first, crashed when Ray confirms it, and resumed elsewhere"
)
def test_run_of_a_lost_node_has_crashed_and_goes_on_elsewhere(
    root: Path, on_lost_node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "OLD_S", 4.0)
    lost = wait_for_written_crash(root, on_lost_node)
    assert "its node died" in lost.message and "resume it" in lost.message
    runs.resume(root, on_lost_node, TOY, engine="gpu")
    assert wait_for_epoch(root, on_lost_node, lost.epoch + 1).host == "r1"
    runs.request_stop(root, on_lost_node)
    wait_for(root, on_lost_node, "stopped")


@pytest.mark.fault(66, "Ray: head restarted: it has forgotten its jobs; the page says so, and the runs can be resumed")
def test_job_that_a_new_head_has_forgotten_is_explained(
    root: Path, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains = submit(root, "gpu")
    before = wait_for_epoch(root, trains)
    cluster.power_cut("r1")
    engine_poller.ask(root, get_engine(root, "gpu"))
    wait_until(lambda: engine_poller.ask(root, get_engine(root, "gpu")), 30, 0.2)
    (status,) = [status for status in engine_poller.overview(root) if status.name == "gpu"]
    assert status.answers is False and runs.get_run(root, trains).state.state in ("running", "unreachable")
    with pytest.raises(RunError):
        runs.delete(root, trains)
    monkeypatch.setattr(heartbeat, "OLD_S", 4.0)
    cluster.boot("r1")
    assert "Ray does not know its job: its head was restarted" in wait_for_written_crash(root, trains).message
    assert not processes_of(root / trains)
    runs.resume(root, trains, TOY)
    wait_for_epoch(root, trains, before.epoch + 1)
    runs.request_stop(root, trains)
    wait_for(root, trains, "stopped")
