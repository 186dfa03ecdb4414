"""Disk, memory and damage: full and read-only disks, a memory limit, a diverging loss, a damaged checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core import runs
from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import LAST, PREVIOUS
from core.config import TrainConfig
from core.errors import CheckpointError
from core.events import Event, Ready
from core.processes import PROJECT, module_command, module_environment
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.training.experiment import train_run
from tests.conftest import missing
from tests.support.damages import cut_off, emptied, garbage, one_bit
from tests.support.watching import processes_of, wait_for, wait_for_step, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]
Config = Callable[..., TrainConfig]
DAMAGED = "last checkpoint truncated, empty, garbage, one bit flipped: the previous one is loaded, with a message"

MOUNT_AND_RUN = (
    'mount -t tmpfs -o size={size} tmpfs "$1" || exit 77; cp -a "$2"/. "$1"/ || exit 78; {more} exec "$0" -c "$3" "$1"'
)
TRAIN = """
import contextlib, sys
from pathlib import Path
from core.runs.processes import worker; from core.runs.store import folder as files
from core.runs.store.state import read_state, write_state
from dataclasses import replace
folder = next(p for p in Path(sys.argv[1]).iterdir() if (p / "config.json").is_file())
with contextlib.suppress(OSError):  # the disk may be read-only
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


def train_on_small_disk(root: Path, target: Path, size: str, more: str = "") -> subprocess.CompletedProcess[str]:
    """Train a copy of the run in a root on a tmpfs of this size, in a mount namespace; skips if that is not allowed."""
    script = MOUNT_AND_RUN.format(size=size, more=more)
    command = ["unshare", "-m", "sh", "-c", script, sys.executable, str(target), str(root), TRAIN]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=PROJECT, env=module_environment(), timeout=200, check=False
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        missing(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def step_of(path: Path) -> int:
    return int(load(path).metadata.progress["step"])


@pytest.mark.long
@pytest.mark.fault(10, "disk full, read-only folder: a clear message, the old checkpoint intact")
def test_full_disk_is_an_error_and_keeps_the_checkpoint(stopped_run: Path, tmp_path: Path) -> None:
    root = stopped_run.parent
    used = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
    done = train_on_small_disk(root, tmp_path, f"{used // 2**20 + 8}m")
    assert "code 1" in done.stdout and f"step {step_of(stopped_run / LAST)}" in done.stdout, done.stdout
    assert "no space left to write" in done.stdout and "the previous file is intact" in done.stdout, done.stdout


@pytest.mark.long
@pytest.mark.fault(10, "disk full, read-only folder: a clear message, the old checkpoint intact")
def test_read_only_folder_is_an_error_and_keeps_the_checkpoint(stopped_run: Path, tmp_path: Path) -> None:
    done = train_on_small_disk(stopped_run.parent, tmp_path, "128m", 'mount -o remount,ro "$1" || exit 77;')
    assert "cannot be written: Read-only file system" in done.stdout, done.stdout
    assert f"step {step_of(stopped_run / LAST)}" in done.stdout, done.stdout


@pytest.mark.long
@pytest.mark.fault(11, "NaN loss: stops before the optimizer moves, names step and subject, finite checkpoint kept")
def test_non_finite_loss_fails_the_run_and_keeps_a_finite_checkpoint(root: Path, stopped_run: Path) -> None:
    """Weights that decay by a hundred times their size change sign and grow until they overflow float32."""
    folder = Path(shutil.copytree(stopped_run, root / stopped_run.name))
    step = step_of(folder / LAST)
    diverging = files.read_config(folder).with_values({"learning_rate": 100, "weight_decay": 1})
    files.write_json(folder / files.CONFIG, diverging.to_json())
    runs.resume(root, folder.name)
    failed = wait_for(root, folder.name, "failed")
    assert "step" in failed.message and "ball_" in failed.message, failed.message
    assert step_of(folder / LAST) >= step
    assert all(bool(t.isfinite().all()) for t in load(folder / LAST).model.values())


@pytest.mark.long
@pytest.mark.fault(12, "memory limit: a message with numbers and advice")
def test_memory_limit_is_an_error_with_numbers_and_advice(root: Path, config: Config) -> None:
    import resource

    folder = create_run(root, config(epochs=2, sub_volume=(96, 96, 96), channels=(64, 128), batch_size=4))
    limit = 6 * 2**30
    subprocess.run(
        module_command("core.runs.processes.trainer_parent", str(folder)),
        env=module_environment(),
        timeout=200,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    failed = wait_for(root, folder.name, "failed")
    for fact in ("not enough memory", "GB", "batch_size"):
        assert fact in failed.message, failed.message


@pytest.mark.fault(13, DAMAGED)
@pytest.mark.parametrize(
    "damage", [one_bit, *(pytest.param(damage, marks=pytest.mark.long(2)) for damage in (emptied, cut_off, garbage))]
)
def test_training_resumes_from_the_previous_checkpoint_if_the_last_one_is_damaged(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    monkeypatch.setattr("core.training.trainer.SAVE_INTERVAL_S", 0.0)
    events: list[Event] = []
    calls = iter(range(100))  # one per subject that is read and one per step
    train_run(config(epochs=2), tmp_path, events.append, should_stop=lambda: next(calls) >= 17)
    before, last = step_of(tmp_path / PREVIOUS), step_of(tmp_path / LAST)
    assert 0 < before < last
    damage(tmp_path / LAST)
    train_run(config(epochs=2), tmp_path, events.append, resume=True)
    _, resumed = (event for event in events if isinstance(event, Ready))
    assert resumed.start_step == before and "the checkpoint before the last one" in resumed.facts["resumed from"]
    assert step_of(tmp_path / LAST) > last and step_of(tmp_path / PREVIOUS) >= before


@pytest.mark.long(15)
@pytest.mark.fault(13, DAMAGED)
def test_damaged_last_checkpoint_is_replaced_by_the_previous_one(root: Path, stopped_run: Path) -> None:
    """As a process, twice in a row; with every damage above."""
    folder = Path(shutil.copytree(stopped_run, root / stopped_run.name))
    for damage in (one_bit, emptied):
        before = step_of(folder / PREVIOUS)
        damage(folder / LAST)
        runs.resume(root, folder.name)
        state = wait_for_step(root, folder.name, before + 1)
        assert "the checkpoint before the last one" in state.facts["resumed from"]
        assert "resumes after epoch" in runs.log_tail(root, folder.name)
        wait_until(lambda: step_if_readable(folder / PREVIOUS) > before)  # noqa: B023
        runs.request_stop(root, folder.name)
        wait_for(root, folder.name, "stopped")
        wait_until(lambda: not processes_of(folder))
        assert step_of(folder / LAST) > before


def step_if_readable(path: Path) -> int:
    """Step of a checkpoint that may be replaced while it is read; 0 where it cannot be read."""
    try:
        return step_of(path)
    except CheckpointError:
        return 0
