"""A checkpoints root on a real network file system: this machine and another one mount it, and the other one trains.

Both are clients of GlusterFS that keep what they know of files for a second, as those of a volume do by default.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from core import runs
from core.errors import RunError
from core.runs.catalog import update_index
from core.runs.engines.registry import get_engine
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store import heartbeat
from core.runs.store.database import FILE, database_url
from core.runs.store.file_systems import INDEX_FOLDER_VARIABLE, file_system_of
from core.runs.store.heartbeat import read_beat
from core.runs.store.process import LockHeldError, locked
from core.runs.store.reconciliation import reconciled_state
from core.runs.store.state import read_state, write_state
from tests.support.cluster import cluster_runs
from tests.support.cluster.cluster_runs import toy
from tests.support.cluster.machines import TOY_RUNS, started
from tests.support.cluster.network_folder import NetworkFolder, OtherMachine, missing_for_network_folder
from tests.support.cluster.slurm_cluster import SlurmCluster, missing_for_slurm
from tests.support.watching import TOY, TOYS, processes_of, wait_for_epoch, wait_until

pytestmark = [pytest.mark.long, pytest.mark.cluster]

HOLD_LOCK = """import sys, time
from pathlib import Path
from core.runs.store import folder as files
with files.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
REPLACE_STATE = """import sys, time
from dataclasses import replace
from pathlib import Path
from core.runs.store.state import read_state, write_state
folder = Path(sys.argv[1])
state = read_state(folder)
print("begins", flush=True)
for epoch in range(1, 41):
    write_state(folder, replace(state, epoch=epoch))
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[NetworkFolder]:
    with started(NetworkFolder, missing_for_network_folder()) as folder:
        yield folder


@pytest.fixture
def root(shared: NetworkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of its own on the network file system; indexes of machines lie in a folder of the test."""
    monkeypatch.setenv(INDEX_FOLDER_VARIABLE, str(tmp_path / "indexes"))
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    return shared.here / tmp_path.name


def waiting_run(root: Path) -> Path:
    """A run that waits, without a queue here that starts it."""
    return create_run(root, toy())


def train_on(machine: OtherMachine, folder: Path, indexes: Path) -> Popen[str]:
    """Train a run there, as a job does; its machine has an index of its own."""
    command = [sys.executable, "-m", "core.runs.processes.trainer_parent", str(folder), "--worker", TOY]
    return machine.start(command, {"TOY_EPOCH_S": "0.3", INDEX_FOLDER_VARIABLE: str(indexes)})


@pytest.mark.fault(
    70, "root on a network file system: watched, stopped and resumed from another mount, never misjudged"
)
def test_run_on_the_other_mount_is_watched_and_stopped_from_here(
    root: Path, shared: NetworkFolder, tmp_path: Path
) -> None:
    folder = waiting_run(root)
    process = train_on(OtherMachine(shared, "far"), folder, tmp_path / "indexes of far")
    states, ended = set[tuple[str, str]](), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            state = reconciled_state(folder)
            states.add((state.state, "" if state.state == "running" else state.message))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        first = wait_for_epoch(root, folder.name)
        beat = read_beat(folder)
        assert first.host == "far" and beat is not None and beat.host == "far"
        wait_until(lambda: (now := read_beat(folder)) is not None and now.count > beat.count + 1)
        wait_until(lambda: runs.get_run(root, folder.name).state.epoch > first.epoch + 1)
        for refused in (lambda: runs.delete(root, folder.name), lambda: runs.resume(root, folder.name, TOY)):
            with pytest.raises(RunError, match="running"):
                refused()
        runs.request_stop(root, folder.name)
        wait_until(lambda: runs.get_run(root, folder.name).state.state == "stopped")
    finally:
        ended.set()
        watcher.join()
        process.kill()
        process.wait()
    assert {state for state, _ in states} <= {"queued", "starting", "running", "stopping", "stopped"}, states
    # The index here does not know what the other machine measures; the page reads it from the folder after a moment.
    wait_until(lambda: any(row.epoch > first.epoch for row in runs.metrics_after(root, folder.name)), 15, 0.2)
    update_index(root, folder)
    assert file_system_of(root) == "fuse.glusterfs"
    assert Path(str(database_url(root).database)).is_relative_to(tmp_path / "indexes")
    assert list((tmp_path / "indexes").glob("*.sqlite")) and list((tmp_path / "indexes of far").glob("*.sqlite"))
    assert not list(root.rglob(f"{FILE}*")), "SQLite is not put on a network file system"


@pytest.mark.fault(71, "power cut of another host without an engine: unreachable, and nothing is started twice")
def test_machine_that_is_gone_leaves_a_run_that_is_unreachable(
    root: Path, shared: NetworkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = waiting_run(root)
    process = train_on(OtherMachine(shared, "far"), folder, tmp_path / "indexes of far")
    wait_for_epoch(root, folder.name)
    process.kill()
    process.wait()
    monkeypatch.setattr(heartbeat, "OLD_S", 2.0)
    wait_until(lambda: not processes_of(folder))
    wait_until(lambda: runs.get_run(root, folder.name).state.state == "unreachable", 30)
    assert "last heard from far" in runs.get_run(root, folder.name).state.message
    for refused in (lambda: runs.delete(root, folder.name), lambda: runs.resume(root, folder.name, TOY)):
        with pytest.raises(RunError, match="unreachable"):
            refused()


@pytest.mark.fault(78, "Slurm, root on a network file system: a job on another mount is watched, stopped and explained")
def test_job_of_a_scheduler_trains_on_the_other_mount(
    root: Path, shared: NetworkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.mkdir()
    indexes = tmp_path / "indexes-of-the-nodes"
    setup = f"export {INDEX_FOLDER_VARIABLE}={indexes}; echo begins on $(hostname)"
    (root / "engines.toml").write_text(f'[gpu]\nkind = "slurm"\npoll_s = 2\nsetup = "{setup}"\n')
    with started(lambda folder: SlurmCluster(folder, shared), missing_for_slurm(), TOY_RUNS) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        run_id = cluster_runs.submit(root, "gpu")
        running = cluster_runs.wait_for_epoch(root, run_id, 2)
        assert running.host in ("n1", "n2") and read_beat(root / run_id) is not None
        with pytest.raises(RunError, match="running"):
            runs.delete(root, run_id)
        runs.request_stop(root, run_id)
        stopped = cluster_runs.wait_for(root, run_id, "stopped")
        assert stopped.epoch >= 2 and (root / run_id / files.LAST).is_file()
        assert f"begins on {running.host}" in get_engine(root, "gpu").logs(root / run_id)
        job = cluster_runs.record_of(root, run_id).job
        wait_until(lambda: "COMPLETED" in cluster.client("squeue", "-h", "-t", "all", "-j", job, "-o", "%T"), 30, 0.2)
    assert file_system_of(root) == "fuse.glusterfs" and list(indexes.glob("*.sqlite"))
    assert not list(root.rglob(f"{FILE}*")), "SQLite is not put on a network file system"


def test_lock_of_the_other_mount_excludes_until_its_machine_is_gone(root: Path, shared: NetworkFolder) -> None:
    folder = waiting_run(root)
    process = OtherMachine(shared, "far").start([sys.executable, "-c", HOLD_LOCK, str(folder)])
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(LockHeldError), locked(folder / files.LOCK, timeout_s=0.2):
        pass
    process.kill()
    process.wait()

    def is_free() -> bool:
        try:
            with locked(folder / files.LOCK, timeout_s=0.2):
                return True
        except LockHeldError:
            return False

    wait_until(is_free, 30)


def test_file_that_the_other_mount_replaces_is_read_at_every_moment(root: Path, shared: NetworkFolder) -> None:
    """Without another attempt, and a look at the folder before it, reads fail with ESTALE for up to a second."""
    folder = waiting_run(root)
    write_state(folder, read_state(folder))
    process = OtherMachine(shared, "far").start([sys.executable, "-c", REPLACE_STATE, str(folder)])
    assert process.stdout is not None and process.stdout.readline() == "begins\n"
    epochs = []
    while process.poll() is None:
        state = read_state(folder)  # raises where the file is not found, or stale
        epochs.append(state.epoch)
        assert reconciled_state(folder).state == "queued"
        time.sleep(0.01)
    assert epochs == sorted(epochs) and len(set(epochs)) > 5
