"""Allocation of GPUs and CPU to queued runs, queue order, and the supervisor with trainers as real processes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core import runs
from core.config import TrainConfig
from core.errors import RunError
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store.gpu_slots import GpuSlot, SlotPool, count_gpus, queue_order
from core.runs.store.state import RunState, read_state, write_state
from tests.support.watching import TOY, supervisor_in_this_process, wait_for, wait_until


def config(**values: object) -> TrainConfig:
    return TrainConfig().with_values(values)


def test_machine_without_gpus_has_one_slot() -> None:
    slots = SlotPool(0)
    assert slots.allocate(config(device="auto")) == GpuSlot()
    assert slots.allocate(config(device="cuda")) is None, (
        "without GPUs it takes the CPU slot; its trainer reports the missing CUDA"
    )
    assert slots.allocate(config(device="cpu")) is None


def test_each_gpu_and_the_cpu_is_a_slot() -> None:
    slots = SlotPool(2)
    assert slots.allocate(config()) == GpuSlot((0,))
    assert slots.allocate(config(device="cuda")) == GpuSlot((1,))
    assert slots.allocate(config()) is None
    assert slots.allocate(config(device="cpu")) == GpuSlot()
    assert slots.allocate(config(device="cpu")) is None


def test_occupied_gpus_are_not_allocated() -> None:
    slots = SlotPool(3)
    slots.occupy(config(), (1,))
    assert [slots.allocate(config()) for _ in range(3)] == [GpuSlot((0,)), GpuSlot((2,)), None]


def test_run_in_a_terminal_occupies_the_first_gpus() -> None:
    slots = SlotPool(3)
    slots.occupy(config(devices=2))
    assert slots.allocate(config()) == GpuSlot((2,))


def test_later_run_does_not_take_gpus_that_the_first_one_waits_for() -> None:
    slots = SlotPool(4)
    slots.occupy(config(), (0,))
    assert slots.allocate(config(devices=4)) is None
    assert slots.allocate(config()) is None, "a later run must not take GPUs that the first one waits for"
    assert slots.allocate(config(device="cpu")) == GpuSlot()


def test_run_for_more_gpus_than_there_are_gets_all() -> None:
    assert SlotPool(2).allocate(config(devices=8)) == GpuSlot((0, 1))


def test_environment_restricts_the_visible_gpus() -> None:
    assert GpuSlot((1, 3)).environment({"A": "b"}) == {"A": "b", "CUDA_VISIBLE_DEVICES": "1,3"}
    restricted = {"CUDA_VISIBLE_DEVICES": "GPU-aa, GPU-bb,7"}
    assert GpuSlot((0, 2)).environment(restricted)["CUDA_VISIBLE_DEVICES"] == "GPU-aa,7"
    assert GpuSlot().environment(restricted) == restricted


def test_count_gpus_agrees_with_torch() -> None:
    import torch

    assert count_gpus() == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_gpus_of_a_cuda_build_are_counted_in_a_child_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "version.py").write_text("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n")
    (package / "__init__.py").write_text(
        "class cuda:\n    is_available = lambda: True\n    device_count = lambda: 3\nprint('noise')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert count_gpus() == 3
    (package / "__init__.py").write_text("raise ImportError('a broken driver')\n")
    assert count_gpus() == 0


def test_queue_order_is_by_turn_then_id() -> None:
    states = [("b", RunState(turn=2.0)), ("a", RunState(turn=2.0)), ("c", RunState(turn=1.0))]
    assert queue_order(states) == ["c", "a", "b"]


def queued_run(root: Path, config: TrainConfig, number: int, name: str) -> str:
    """A run queued ``number`` seconds after run 0, all of them in the past."""
    folder = create_run(root, config, name)
    state = read_state(folder)
    queued_at = state.queued_at - 10 + number
    write_state(folder, replace(state, queued_at=queued_at, turn=queued_at))
    return folder.name


@pytest.fixture
def waiting(root: Path, toy: Callable[..., TrainConfig]) -> list[str]:
    """Four queued runs without a supervisor."""
    return [queued_run(root, toy(), n, name) for n, name in enumerate("abcd")]


def test_queued_run_is_moved(root: Path, waiting: list[str]) -> None:
    a, b, c, d = waiting
    assert runs.queued_runs(root) == [a, b, c, d]
    assert runs.move_in_queue(root, d, "first") == [d, a, b, c]
    assert runs.move_in_queue(root, d, "earlier") == [d, a, b, c]
    assert runs.move_in_queue(root, d, "later") == [a, d, b, c]
    assert runs.move_in_queue(root, c, "earlier") == [a, d, c, b]
    assert runs.move_in_queue(root, a, "last") == [d, c, b, a]
    assert runs.move_in_queue(root, a, "last") == [d, c, b, a]
    assert runs.move_in_queue(root, d, "later") == [c, d, b, a]
    late = create_run(root, files.read_config(root / a), "late").name
    assert runs.queued_runs(root)[-1] == late, "a new run is the last one"


def test_only_queued_runs_are_moved(root: Path, waiting: list[str]) -> None:
    runs.request_stop(root, waiting[1])
    with pytest.raises(RunError, match=r"queue.*stopped"):
        runs.move_in_queue(root, waiting[1], "first")
    assert runs.queued_runs(root) == [waiting[0], waiting[2], waiting[3]]


def test_queue_of_an_earlier_version_keeps_its_order(root: Path, waiting: list[str]) -> None:
    for run_id in waiting:
        data = files.read_json(root / run_id / files.STATE)
        for name in ("turn", "gpus", "longest_gap_s"):
            del data[name]
        files.write_json(root / run_id / files.STATE, data)
    assert runs.queued_runs(root) == waiting


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="reads /proc")
def test_supervisor_gives_each_gpu_to_one_run(root: Path, toy: Callable[..., TrainConfig]) -> None:
    """Two GPUs and five runs, of which one is for the CPU and one was moved to the front of the queue."""
    base = toy(epochs=1000, epoch_s=0.2)
    configs = [base.with_values(values) for values in ({}, {}, {"device": "cpu"}, {}, {})]
    ids = [queued_run(root, config, n, "run") for n, config in enumerate(configs)]
    runs.move_in_queue(root, ids[4], "first")
    supervisor = supervisor_in_this_process(root, gpus=2)
    supervisor.poll()
    states = {run_id: wait_for(root, run_id, "running") for run_id in (ids[4], ids[0], ids[2])}
    assert {states[ids[4]].gpus, states[ids[0]].gpus} == {(0,), (1,)}
    assert states[ids[2]].gpus == ()
    supervisor.poll()
    assert runs.queued_runs(root) == [ids[1], ids[3]]
    for run_id, state in states.items():
        variables = Path(f"/proc/{state.pid}/environ").read_bytes().split(b"\0")
        assert b"GLIBC_TUNABLES=glibc.malloc.tcache_count=0" in variables
        visible = [v for v in variables if v.startswith(b"CUDA_VISIBLE_DEVICES=")]
        inherited = os.environb.get(b"CUDA_VISIBLE_DEVICES")
        expected = f"CUDA_VISIBLE_DEVICES={state.gpus[0]}".encode() if state.gpus else inherited
        assert visible == ([] if expected is None else [expected]), run_id
    freed = states[ids[0]].gpus
    runs.request_stop(root, ids[0])
    wait_for(root, ids[0], "stopped")
    supervisor.poll()
    assert wait_for(root, ids[1], "running").gpus == freed
    assert runs.queued_runs(root) == [ids[3]]


def test_stalled_is_relative_to_the_longest_gap_of_the_run(root: Path, waiting: list[str]) -> None:
    folder = root / waiting[0]
    state = write_state(folder, replace(read_state(folder), state="running", longest_gap_s=2.0))
    now = state.updated_at
    assert state.stalled_s(now + 100) is None
    assert state.stalled_s(now + 121) == pytest.approx(121)
    slow = replace(state, longest_gap_s=90.0)
    assert slow.stalled_s(now + 400) is None and slow.stalled_s(now + 451) == pytest.approx(451)
    for other in ("queued", "starting", "finished", "crashed"):
        assert replace(state, state=other).stalled_s(now + 10**6) is None  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_suspended_trainer_is_stalled_and_not_killed(
    root: Path, toy: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs.store.state.STALLED_S", 1.0)
    run_id = runs.submit(root, toy(epochs=1000, epoch_s=0.1), worker=TOY)
    state = wait_until(lambda: (s := runs.get_run(root, run_id).state).epoch >= 5 and s)
    assert 0 < state.longest_gap_s < 10
    monkeypatch.setattr("core.runs.store.state.STALLED_TIMES", 1.5 / state.longest_gap_s)
    os.kill(state.pid, signal.SIGSTOP)
    silent = wait_until(lambda: runs.get_run(root, run_id).to_json()["stalled_s"])
    assert silent > 1
    assert runs.get_run(root, run_id).state.state == "running"
    os.kill(state.pid, signal.SIGCONT)
    wait_until(lambda: runs.get_run(root, run_id).to_json()["stalled_s"] is None)
    runs.request_stop(root, run_id)
    wait_for(root, run_id, "stopped")
