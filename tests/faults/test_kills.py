"""Trainers killed at any instant: while they save, within an epoch, between measurement and checkpoint."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core import runs
from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import LAST
from core.config import TrainConfig
from core.errors import RunError
from core.runs.engines.local import supervisor_file, supervisor_lock
from core.runs.launch import WORKER, create_run
from core.runs.reporting.recorder import Recorder
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.database import FILE
from core.runs.store.process import process_identity
from core.runs.store.state import read_state, write_state
from core.training.experiment import train_run
from tests.faults.conftest import LARGE_NETWORK
from tests.support.watching import TOY, TOYS, wait_for, wait_for_step, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]
Config = Callable[..., TrainConfig]
KILLS, ROOTS = 4, 2

DETERMINISTIC: dict[str, object] = {
    "epochs": 4, "deterministic": True, "affine": 0.7, "elastic": 0.3, "noise": 0.1, "checkpoint_minutes": 0.01,
    "optimizer": "muon", "learning_rate": 0.02, "ema": 0.9, "whole_every": 2,
}  # fmt: skip


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def step_of(path: Path) -> int:
    return int(load(path).metadata.progress["step"])


@pytest.mark.long(30)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.fault(1, "trainer killed while it writes a checkpoint: every time it resumes")
def test_run_killed_within_a_save_resumes(root: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    instants = ("empty", "half", "link", "rename")
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.setenv("KILL_IN_SAVE", ",".join(instants))
    run_id = runs.submit(root, config(epochs=10**5, checkpoint_minutes=0.01), worker="killed_in_save_worker")
    folder, steps, stale = root / run_id, [0], set[Path]()
    for instant in instants:
        assert "SIGKILL" in wait_for(root, run_id, "crashed").message
        left = set(folder.glob(f".{LAST}.*.tmp"))
        assert len(left) == 1 and not left & stale, f"not killed within the save: {instant}"
        stale |= left
        steps.append(step_of(folder / LAST))
        runs.resume(root, run_id, worker="killed_in_save_worker")
    assert steps == sorted(set(steps)), "no progress between two kills"
    wait_for_step(root, run_id, steps[-1] + 1)
    assert not stale & set(folder.glob(f".{LAST}.*.tmp")), "a temporary file of a killed trainer is left"


@pytest.mark.long(50)
@pytest.mark.fault(1, f"trainer killed while it writes a checkpoint, {KILLS} times: every time it resumes")
def test_run_killed_during_many_saves_resumes(root: Path, config: Config) -> None:
    """In several roots at once: most of the time passes while trainers start."""
    large = config(epochs=10**5, checkpoint_minutes=0.01, **LARGE_NETWORK)
    with ThreadPoolExecutor(ROOTS) as pool:
        during_save = sum(pool.map(kill_during_saves, [root / f"{n}" for n in range(ROOTS)], [large] * ROOTS))
    assert during_save == KILLS, f"only {during_save} of {KILLS} kills were during a save"


def kill_during_saves(root: Path, config: TrainConfig) -> int:
    """Kill a run during its second save, and during the first save after it was resumed; a kill that came too late is
    repeated once. Returns how often it was saving."""
    run_id = runs.submit(root, config)
    folder, steps, during_save = root / run_id, [0], 0
    for _ in range(KILLS // ROOTS + 1):
        before = mtime_ns(folder / LAST)
        state = wait_for_step(root, run_id, steps[-1] + 1)
        if during_save % 2 == 0:
            wait_until(lambda: mtime_ns(folder / LAST) > before)  # noqa: B023
        wait_until(lambda: any(folder.glob(f".{LAST}.*.tmp")), timeout_s=60, poll_s=0.001)
        kill(state.pid)
        during_save += any(folder.glob(f".{LAST}.*.tmp"))
        assert "SIGKILL" in wait_for(root, run_id, "crashed", timeout_s=5).message
        steps.append(step_of(folder / LAST))
        assert steps[-1] >= steps[-2]
        runs.resume(root, run_id)
        if during_save == KILLS // ROOTS:
            break
    before = mtime_ns(folder / LAST)
    wait_for_step(root, run_id, steps[-1] + 1)
    wait_until(lambda: mtime_ns(folder / LAST) > before)
    assert step_of(folder / LAST) > steps[-1] > 0, "no progress after the kills"
    return during_save


def mtime_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.long
@pytest.mark.fault(2, "trainer killed within an epoch: crashed, with the signal's name, within 5 s")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_killed_trainer_is_a_crash_that_names_its_signal(
    root: Path, config: Config, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """After the first signal of a trainer that trains nothing: its process has the same handlers."""
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    run_id = runs.submit(root, config(epochs=10**5), worker=WORKER if name == "SIGKILL" else TOY)
    state = wait_for_step(root, run_id, 3)
    assert state.pid is not None
    os.kill(state.pid, getattr(signal, name))
    assert name in wait_for(root, run_id, "crashed", timeout_s=5).message


@pytest.fixture(scope="module")
def uninterrupted(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a deterministic run that was never interrupted, and was trained in this process."""
    values = config(**DETERMINISTIC)
    folder = create_run(tmp_path_factory.mktemp("uninterrupted"), values, foreground=True)
    recorder = Recorder(folder, read_state(folder))
    train_run(values, folder, recorder)
    recorder.end("finished")
    return folder


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load(path / LAST, training_state=True) for path in (one, other))
    groups = [(a.model, b.model), (a.average, b.average), *zip(a.optimizer.values(), b.optimizer.values(), strict=True)]
    return all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in groups)


def dice_rows(rows: Iterable[runs.MetricRow]) -> list[tuple[int, str, float]]:
    return [(row.step, row.name, row.value) for row in rows if "dice" in row.name]


def assert_same_run(folder: Path, uninterrupted: Path) -> None:
    """Same weights, and every measurement is in the file, in the index and in the API once, in the same order."""
    assert same_weights(uninterrupted, folder)
    lines = [json.loads(line) for line in (folder / metrics_file.METRICS).read_text().splitlines()]
    written = [(line["step"], name) for line in lines for name in line["values"]]
    assert len(written) == len(set(written)), "a step and name twice in metrics.jsonl"
    with sqlite3.connect(folder.parent / FILE) as database:
        indexed = database.execute("select step, name from metrics where run = ? order by id", [folder.name]).fetchall()
    assert indexed == written, "the index differs from metrics.jsonl"
    served = runs.metrics_after(folder.parent, folder.name)
    assert [(row.step, row.name) for row in served] == written, "metrics_after differs from metrics.jsonl"
    expected = dice_rows(metrics_file.read_metrics(uninterrupted))
    assert dice_rows(served) == dice_rows(metrics_file.read_metrics(folder)) == expected
    losses = {row.step for row in metrics_file.read_metrics(uninterrupted) if row.name == "train/loss"}
    epoch_ends = {step for step, _, _ in expected}
    assert epoch_ends <= losses and epoch_ends <= {step for step, name in written if name == "train/loss"}


def run_resumed_after_each_kill(root: Path, config: TrainConfig, kills: int) -> Path:
    """Train with the worker that kills itself, and resume it each time; returns the folder of the finished run."""
    run_id = runs.submit(root, config, worker="self_killing_worker")
    for _ in range(kills):
        assert "SIGKILL" in wait_for(root, run_id, "crashed").message
        runs.resume(root, run_id, worker="self_killing_worker")
    assert wait_for(root, run_id, "finished").attempt == 1 + kills
    return root / run_id


@pytest.mark.fault(3, "killed and resumed equals never interrupted, bit for bit")
@pytest.mark.parametrize(
    "instants",
    [("2", "99,20", 2), pytest.param(("", "3,27", 2), marks=pytest.mark.long(25))],
    ids=["after a measurement and at a step", "early and late"],
)
def test_killed_and_resumed_run_equals_uninterrupted_run(
    root: Path, config: Config, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, instants: tuple[str, str, int]
) -> None:
    epochs, steps, kills = instants  # step 99 is never reached: the first attempt ends after the measurement
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.setenv("KILL_AT_EPOCHS", epochs)
    monkeypatch.setenv("KILL_AT_STEPS", steps)
    folder = run_resumed_after_each_kill(root, config(**DETERMINISTIC), kills)
    assert_same_run(folder, uninterrupted)
    assert list((folder / files.TENSORBOARD).glob("events.*"))


@pytest.mark.long(25)
@pytest.mark.fault(3, "killed between whole-volume validation and checkpoint: measured again, recorded once")
def test_run_killed_between_measurement_and_checkpoint_has_each_row_once(
    root: Path, config: Config, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.setenv("KILL_AT_EPOCHS", "2,4")
    folder = run_resumed_after_each_kill(root, config(**DETERMINISTIC), kills=2)
    assert_same_run(folder, uninterrupted)


@pytest.mark.long
@pytest.mark.fault(9, "stale lock and recycled PID: no foreign process is touched")
def test_process_with_a_recycled_pid_is_not_touched(
    root: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has the PID of the dead trainer, its dead parent and the dead supervisor."""
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    run_id = create_run(root, config(epochs=10**5)).name
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        old = process_identity(os.getpid()) + "1"  # of a process that started at another time
        stale = {"pid": foreign.pid, "identity": old, "since": 1.0}
        files.write_json(supervisor_file(root), stale)
        supervisor_lock(root).write_text(str(foreign.pid))
        state = read_state(root / run_id)
        write_state(
            root / run_id,
            replace(
                state, state="running", attempt=1, pid=foreign.pid, pid_start=old, shim_pid=foreign.pid, shim_start=old
            ),
        )
        assert runs.get_run(root, run_id).state.state == "crashed"
        with pytest.raises(RunError, match="crashed already"):
            runs.request_stop(root, run_id, now=True)
        runs.resume(root, run_id, TOY)
        wait_for_step(root, run_id, 1)
        runs.request_stop(root, run_id, now=True)
        wait_for(root, run_id, "stopped", timeout_s=10)
        assert foreign.poll() is None, "a foreign process was killed"
    finally:
        foreign.kill()
        foreign.wait()
