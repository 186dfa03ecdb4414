"""What may happen to a training run while nobody looks, done to real ones; a run is never lost and never lies.

What happens to the web server and to tabs meanwhile is in tests/browser: test_first_light.py and test_web_faults.py.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from core import runs
from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import LAST, PREVIOUS
from core.config import TrainConfig
from core.errors import RunError
from core.runs.launch import SUPERVISOR_FILE
from core.runs.store import folder as files
from core.runs.store.index import FILE, open_index
from core.runs.store.process import PROJECT, module_command, module_environment, process_identity
from core.runs.store.state import read_state, write_state
from tests.conftest import missing
from tests.faults.conftest import processes_of, tiny_config, until, wait_for, wait_for_step
from tests.support.damages import cut_off, emptied, garbage, one_bit
from tests.support.watching import TOYS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]
Config = Callable[..., TrainConfig]
KILLS, ROOTS = 25, 3


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def step_of(path: Path) -> int:
    return int(load(path).metadata.progress["step"])


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load(path / LAST, training_state=True) for path in (one, other))
    groups = [(a.model, b.model), (a.average, b.average), *zip(a.optimizer.values(), b.optimizer.values(), strict=True)]
    return all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in groups)


@pytest.mark.fault(1, f"trainer killed while it writes a checkpoint, {KILLS} times: every time it resumes")
def test_killed_while_it_saves(root: Path, config: Config) -> None:
    """In several roots at once, each with a keeper of its own: most of the time goes by while trainers start."""
    large = config(epochs=10**5, channels=(48, 96, 192), sub_volume=(8, 8, 8), batch_size=1, checkpoint_minutes=0.01)
    kills = [len(range(n, KILLS, ROOTS)) for n in range(ROOTS)]
    with ThreadPoolExecutor(ROOTS) as pool:
        torn = sum(pool.map(kill_while_it_saves, [root / f"{n}" for n in range(ROOTS)], [large] * ROOTS, kills))
    assert torn >= 0.8 * KILLS, f"only {torn} of {KILLS} were killed while they wrote"


def kill_while_it_saves(root: Path, config: TrainConfig, times: int) -> int:
    """Kill it in its first checkpoint after a start, then in its second, and so on; how often it was writing.

    The keeper resumes nothing by itself; each time the run is resumed as a person would.
    """
    run_id = runs.submit(root, config)
    folder, steps, torn = root / run_id, [0], 0
    for number in range(times):
        before = written_at(folder / LAST)
        state = wait_for_step(root, run_id, steps[-1] + 1)
        if number % 2 == 0:
            until(lambda: written_at(folder / LAST) > before)  # noqa: B023
        seen = time.monotonic()
        until(lambda: any(folder.glob(".last.safetensors.*.tmp")) or time.monotonic() - seen > 20, every=0.001)  # noqa: B023
        kill(state.pid)
        torn += any(folder.glob(".last.safetensors.*.tmp"))
        crashed = wait_for(root, run_id, "crashed", seconds=5)
        assert "SIGKILL" in crashed.message
        steps.append(step_of(folder / LAST))
        assert steps[-1] >= steps[-2]
        runs.resume(root, run_id)
    wait_for_step(root, run_id, steps[-1] + 1)
    assert steps[-1] > steps[1], "it got on between the kills"
    return torn


def written_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.fault(2, "trainer killed within an epoch: crashed, with the signal's name, within 5 s")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_killed_within_an_epoch(root: Path, config: Config, name: str) -> None:
    run_id = runs.submit(root, config(epochs=10**5))
    state = wait_for_step(root, run_id, 3)
    assert state.pid is not None
    os.kill(state.pid, getattr(signal, name))
    crashed = wait_for(root, run_id, "crashed", seconds=5)
    assert name in crashed.message


DETERMINISTIC: dict[str, object] = {
    "epochs": 6, "deterministic": True, "affine": 0.7, "elastic": 0.3, "noise": 0.1, "checkpoint_minutes": 0.01,
    "optimizer": "muon", "learning_rate": 0.02, "ema": 0.9, "whole_every": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a deterministic run that was never interrupted."""
    root = tmp_path_factory.mktemp("uninterrupted")
    run_id = runs.submit(root, tiny_config(data, **DETERMINISTIC))
    wait_for(root, run_id, "finished")
    return root / run_id


def dice_rows(rows: Iterable[runs.MetricRow]) -> list[tuple[int, str, float]]:
    return [(row.step, row.name, row.value) for row in rows if "dice" in row.name]


def assert_same_run(folder: Path, uninterrupted: Path) -> None:
    """Same weights, and every measurement is in the file, in the index and in the API once, in the same order."""
    assert same_weights(uninterrupted, folder)
    lines = [json.loads(line) for line in (folder / files.METRICS).read_text().splitlines()]
    written = [(line["step"], name) for line in lines for name in line["values"]]
    assert len(written) == len(set(written)), "a step and name twice in metrics.jsonl"
    with sqlite3.connect(folder.parent / FILE) as database:
        indexed = database.execute("select step, name from metrics where run = ? order by id", [folder.name]).fetchall()
    assert indexed == written, "the index differs from metrics.jsonl"
    served = runs.metrics_after(folder.parent, folder.name)
    assert [(row.step, row.name) for row in served] == written, "metrics_after differs from metrics.jsonl"
    expected = dice_rows(files.read_metrics(uninterrupted))
    assert dice_rows(served) == dice_rows(files.read_metrics(folder)) == expected
    losses = {row.step for row in files.read_metrics(uninterrupted) if row.name == "train/loss"}
    epoch_ends = {step for step, _, _ in expected}
    assert epoch_ends <= losses and epoch_ends <= {step for step, name in written if name == "train/loss"}


@pytest.mark.fault(3, "killed and resumed equals never interrupted, bit for bit")
def test_killed_and_resumed_run_equals_uninterrupted_run(root: Path, config: Config, uninterrupted: Path) -> None:
    run_id = runs.submit(root, config(**DETERMINISTIC))
    for step in (3, 20):
        kill(wait_for_step(root, run_id, step).pid)
        wait_for(root, run_id, "crashed", seconds=5)
        runs.resume(root, run_id)
    assert wait_for(root, run_id, "finished").attempt == 3
    assert_same_run(root / run_id, uninterrupted)
    assert list((root / run_id / files.TENSORBOARD).glob("events.*"))


@pytest.mark.fault(3, "killed between its measurement on whole volumes and its checkpoint: measured again, there once")
def test_run_killed_between_measurement_and_checkpoint_has_each_row_once(
    root: Path, config: Config, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.setenv("KILL_AT_EPOCHS", "4,6,6")
    run_id = runs.submit(root, config(**DETERMINISTIC), worker="self_killing_worker")
    for _ in range(3):
        assert "SIGKILL" in wait_for(root, run_id, "crashed").message
        runs.resume(root, run_id, worker="self_killing_worker")
    assert wait_for(root, run_id, "finished").attempt == 4
    assert_same_run(root / run_id, uninterrupted)


@pytest.mark.fault(7, "supervisor killed: the run goes on, is taken over, nothing starts twice, no orphan")
def test_the_supervisor_is_killed(root: Path, config: Config) -> None:
    first, second = (runs.submit(root, config(epochs=25), name) for name in ("first", "second"))
    running = wait_for_step(root, first, 3)
    kill(int(json.loads((root / SUPERVISOR_FILE).read_text())["pid"]))
    until(lambda: not runs.supervisor_alive(root))
    runs.ensure_supervisor(root)
    until(lambda: runs.supervisor_alive(root))
    after = runs.get_run(root, first).state
    assert (after.pid, after.attempt) == (running.pid, 1)
    assert runs.get_run(root, second).state.state == "queued"
    wait_for(root, first, "finished")
    wait_for(root, second, "finished")
    assert [runs.get_run(root, i).state.attempt for i in (first, second)] == [1, 1]
    until(lambda: {p.pid for p in processes_of(root / first)} | {p.pid for p in processes_of(root / second)} == set())


@pytest.mark.fault(8, "stop, stop twice, stop while queued: no process left, checkpoint kept, resumable")
def test_stop_as_often_as_you_like(root: Path, config: Config) -> None:
    first, second = (runs.submit(root, config(epochs=10**5), name) for name in ("first", "second"))
    state = wait_for_step(root, first, 3)
    runs.request_stop(root, second)
    assert runs.get_run(root, second).state.state == "stopped"
    for _ in range(2):
        runs.request_stop(root, first)
    stopped = wait_for(root, first, "stopped", seconds=20)
    assert state.pid is not None and state.shim_pid is not None
    until(lambda: not processes_of(root / first))
    until(lambda: not any(psutil.pid_exists(pid) for pid in (state.pid, state.shim_pid) if pid))
    assert step_of(root / first / LAST) == stopped.step
    runs.resume(root, first)
    wait_for_step(root, first, stopped.step + 1)
    runs.request_stop(root, first, now=True)
    wait_for(root, first, "stopped", seconds=10)
    assert not (root / second / LAST).exists()


@pytest.mark.fault(9, "stale lock and recycled PID: no foreign process is touched")
def test_a_recycled_pid(root: Path, config: Config) -> None:
    """Another process now has the PID that a dead trainer, its shim and a dead supervisor had."""
    run_id = runs.submit(root, config(epochs=10**5))
    wait_for_step(root, run_id, 1)
    for process in processes_of(root):
        process.kill()
    wait_for(root, run_id, "crashed", seconds=5)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        old = process_identity(os.getpid()) + "1"  # of a process that started at another time
        stale = {"pid": stranger.pid, "identity": old, "since": 1.0}
        files.write_json(root / SUPERVISOR_FILE, stale)
        (root / ".supervisor.lock").write_text(str(stranger.pid))
        state = read_state(root / run_id)
        write_state(
            root / run_id,
            replace(state, state="running", pid=stranger.pid, pid_start=old, shim_pid=stranger.pid, shim_start=old),
        )
        (root / run_id / files.EXIT).unlink(missing_ok=True)
        assert runs.get_run(root, run_id).state.state == "crashed"
        with pytest.raises(RunError, match="crashed already"):
            runs.request_stop(root, run_id, now=True)
        runs.resume(root, run_id)
        wait_for_step(root, run_id, 2)
        runs.request_stop(root, run_id, now=True)
        wait_for(root, run_id, "stopped", seconds=10)
        assert stranger.poll() is None, "a stranger was ended"
    finally:
        stranger.kill()
        stranger.wait()


NAMESPACE = (
    'mount -t tmpfs -o size={size} tmpfs "$1" || exit 77; cp -a "$2"/. "$1"/ || exit 78; {more} exec "$0" -c "$3" "$1"'
)
TRAIN_THERE = """
import contextlib, sys
from pathlib import Path
from core.runs.processes import worker; from core.runs.store import folder as files
from core.runs.store.state import read_state, write_state
from dataclasses import replace
folder = next(p for p in Path(sys.argv[1]).iterdir() if (p / "config.json").is_file())
with contextlib.suppress(OSError):  # a disk that cannot be written is what is tried
    (folder / "stop").unlink(missing_ok=True)
try:
    write_state(folder, replace(read_state(folder), state="starting", attempt=2))
except Exception as error:
    print("state:", error)
code = 0
try:
    code = worker.main(folder)
except Exception as error:
    print("raised:", type(error).__name__, error)
print("code", code)
print("message", read_state(folder).message)
from core.checkpointing.checkpoint import load
print("step", load(folder / "last.safetensors").metadata.progress["step"])
"""


def in_a_namespace(folder: Path, size: str, more: str = "") -> subprocess.CompletedProcess[str]:
    """Train a copy of a root on a small disk of its own; nobody else sees it. Skips where that is not allowed."""
    disk = folder.with_name(f"disk-{size}")
    disk.mkdir()
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        NAMESPACE.format(size=size, more=more),
        sys.executable,
        str(disk),
        str(folder),
    ]
    done = subprocess.run(
        [*command, TRAIN_THERE], capture_output=True, text=True, cwd=PROJECT, env=module_environment(), timeout=200,
        check=False,
    )  # fmt: skip
    if done.returncode == 77 or "unshare failed" in done.stderr:
        missing(f"no disk of its own can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def stopped_run(root: Path, config: TrainConfig) -> Path:
    run_id = runs.submit(root, config)
    wait_for_step(root, run_id, 4)
    runs.request_stop(root, run_id)
    wait_for(root, run_id, "stopped")
    until(lambda: not processes_of(root / run_id))
    return root / run_id


@pytest.mark.fault(10, "disk full, read-only folder: a clear message, the old checkpoint intact")
def test_a_full_disk(root: Path, config: Config) -> None:
    folder = stopped_run(root, config(epochs=10**5, channels=(48, 96, 192), checkpoint_minutes=0.01))
    step, used = step_of(folder / LAST), sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
    done = in_a_namespace(root, f"{used // 2**20 + 8}m")
    assert "code 1" in done.stdout and f"step {step}" in done.stdout, done.stdout
    assert "no space left to write" in done.stdout and "the previous file is intact" in done.stdout, done.stdout


@pytest.mark.fault(10, "disk full, read-only folder: a clear message, the old checkpoint intact")
def test_a_read_only_folder(root: Path, config: Config) -> None:
    folder = stopped_run(root, config(epochs=10**5))
    step = step_of(folder / LAST)
    done = in_a_namespace(root, "64m", 'mount -o remount,ro "$1" || exit 77;')
    assert "cannot be written: Read-only file system" in done.stdout and f"step {step}" in done.stdout, done.stdout


@pytest.mark.fault(11, "NaN loss: stops before the optimizer moves, names step and subject, finite checkpoint kept")
def test_a_loss_that_is_no_number(root: Path, config: Config) -> None:
    """Weights that decay by a hundred times their size change sign and grow, until float32 holds them no more."""
    calm = config(epochs=10**5, clip_norm=0.0, optimizer="sgd", lr_schedule="constant", ema=0.0, learning_rate=1e-3)
    folder = stopped_run(root, calm)
    step = step_of(folder / LAST)
    exploding = calm.with_values({"learning_rate": 100, "weight_decay": 1})
    files.write_json(folder / files.CONFIG, exploding.to_json())
    runs.resume(root, folder.name)
    failed = wait_for(root, folder.name, "failed")
    assert "not finite any more at step" in failed.message and "ball_" in failed.message, failed.message
    assert step_of(folder / LAST) >= step
    assert all(bool(t.isfinite().all()) for t in load(folder / LAST).model.values())


@pytest.mark.fault(12, "memory limit: a sentence with numbers and what to do")
def test_a_memory_limit(root: Path, config: Config) -> None:
    import resource

    from core.runs.launch import create_run

    folder = create_run(root, config(epochs=2, sub_volume=(96, 96, 96), channels=(64, 128), batch_size=4))
    limit = 6 * 2**30
    subprocess.run(
        module_command("core.runs.processes.trainer_parent", str(folder)), env=module_environment(), timeout=200, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    failed = wait_for(root, folder.name, "failed")
    for words in ("not enough memory", "GB", "batch_size"):
        assert words in failed.message, failed.message


@pytest.mark.fault(13, "last checkpoint truncated, empty, garbage, one bit flipped: the one before is taken, and told")
def test_a_damaged_last_checkpoint(root: Path, config: Config) -> None:
    folder = stopped_run(root, config(epochs=10**5, checkpoint_minutes=0.01))
    for damage in (emptied, cut_off, garbage, one_bit):
        before = step_of(folder / PREVIOUS)
        damage(folder / LAST)
        runs.resume(root, folder.name)
        state = wait_for_step(root, folder.name, before + 1)
        assert "the checkpoint before the last one" in state.facts["resumed from"]
        assert "goes on after epoch" in runs.log_tail(root, folder.name)
        time.sleep(1.5)  # for two more checkpoints
        runs.request_stop(root, folder.name)
        wait_for(root, folder.name, "stopped")
        until(lambda: not processes_of(folder))
        assert step_of(folder / LAST) > before


@pytest.mark.fault(15, "two starts at once: one run per slot")
def test_two_starts_at_once(root: Path, config: Config) -> None:
    values = json.dumps(config(epochs=12).to_json())
    program = (
        "import json, sys; from pathlib import Path; from core import runs; from core.config import TrainConfig; "
        "print(runs.submit(Path(sys.argv[1]), TrainConfig.from_json(json.loads(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", program, str(root), values]
    started = [
        subprocess.Popen(command, cwd=PROJECT, env=module_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ids = [process.communicate(timeout=60)[0].strip() for process in started]
    assert len(set(ids)) == 3
    most = 0
    while any(runs.get_run(root, i).state.state not in ("finished",) for i in ids):
        active = [i for i in ids if runs.get_run(root, i).state.active]
        most = max(most, len(active))
        assert len(active) <= 1, "two runs on one slot"
        assert not [i for i in ids if runs.get_run(root, i).state.state in ("failed", "crashed")]
        time.sleep(0.02)
    assert most == 1
    assert [runs.get_run(root, i).state.attempt for i in ids] == [1, 1, 1]


METRICS_WRITER = """
import sys, time
from pathlib import Path
from core.events import Metrics, Ready
from core.runs.reporting.recorder import Recorder
from core.runs.store.state import read_state
import core.runs.reporting.recorder as module

module.INDEX_EVERY_S = 0.0
folder, step = Path(sys.argv[1]), int(sys.argv[2])
recorder = Recorder(folder, read_state(folder))
recorder(Ready({}, ("air", "one"), 1, step))
while True:
    step += 1
    recorder(Metrics(1, step, 0.01 * step, {f"m{n}": step + n / 10 for n in range(5)}))
"""


@pytest.mark.fault(16, "metrics writer killed 20 times: database whole, no half batch, rebuild gives the same")
def test_the_metrics_writer_is_killed(root: Path, config: Config) -> None:
    from core.runs.launch import create_run

    folder, chance, last = create_run(root, config()), random.Random(1), 0
    for _ in range(20):
        command = [sys.executable, "-c", METRICS_WRITER, str(folder), str(last)]
        writer = subprocess.Popen(command, cwd=PROJECT, env=module_environment())
        until(lambda: any(row.step > last + 3 for row in files.read_metrics(folder)), every=0.05)  # noqa: B023
        time.sleep(chance.uniform(0, 0.1))
        writer.kill()
        writer.wait()
        last = max(row.step for row in files.read_metrics(folder)) - 1  # as if its last checkpoint was one step before
        with sqlite3.connect(root / FILE) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            batches = database.execute("SELECT step, count(*) FROM metrics GROUP BY step").fetchall()
        assert batches and all(count == 5 for _, count in batches), batches
        steps = [row.step for row in files.read_metrics(folder)]
        assert all(steps.count(s) == 5 for s in set(steps))
    index = open_index(root)
    index.rebuild()
    once = [(r.step, r.name, r.value) for r in index.metrics_after(folder.name, 0, 10**6)]
    assert once == [(r.step, r.name, r.value) for r in files.read_metrics(folder)]
    index.rebuild()
    assert once == [(r.step, r.name, r.value) for r in index.metrics_after(folder.name, 0, 10**6)]
