"""Which run gets which GPU, in which order; and the keeper that gives them, with trainers as real processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core import runs
from core.config import TrainConfig
from core.errors import RunError
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store.gpu_slots import Place, Slots, count_gpus, in_order
from core.runs.store.process import module_command, start_detached
from core.runs.store.state import RunState, read_state, write_state
from tests.support.watching import TOY, wait_for, wait_until


def config(**values: object) -> TrainConfig:
    return TrainConfig().with_values(values)


def test_a_machine_without_gpus_trains_one_run_at_a_time() -> None:
    slots = Slots(0)
    assert slots.give(config(device="auto")) == Place()
    assert slots.give(config(device="cuda")) is None, "its trainer will say that there is no CUDA; one at a time"
    assert slots.give(config(device="cpu")) is None


def test_every_gpu_trains_a_run_and_so_does_the_cpu() -> None:
    slots = Slots(2)
    assert slots.give(config()) == Place((0,))
    assert slots.give(config(device="cuda")) == Place((1,))
    assert slots.give(config()) is None
    assert slots.give(config(device="cpu")) == Place()
    assert slots.give(config(device="cpu")) is None


def test_what_is_taken_is_not_given_again() -> None:
    slots = Slots(3)
    slots.take(config(), (1,))
    assert [slots.give(config()) for _ in range(3)] == [Place((0,)), Place((2,)), None]


def test_a_run_in_a_terminal_takes_the_first_gpus() -> None:
    slots = Slots(3)
    slots.take(config(devices=2))
    assert slots.give(config()) == Place((2,))


def test_nobody_takes_the_gpus_that_the_first_in_line_waits_for() -> None:
    slots = Slots(4)
    slots.take(config(), (0,))
    assert slots.give(config(devices=4)) is None
    assert slots.give(config()) is None, "it came later: the four would never be free at once"
    assert slots.give(config(device="cpu")) == Place()


def test_a_run_on_more_gpus_than_there_are_gets_all() -> None:
    assert Slots(2).give(config(devices=8)) == Place((0, 1))


def test_a_trainer_sees_its_gpus_alone() -> None:
    assert Place((1, 3)).environment({"A": "b"}) == {"A": "b", "CUDA_VISIBLE_DEVICES": "1,3"}
    restricted = {"CUDA_VISIBLE_DEVICES": "GPU-aa, GPU-bb,7"}
    assert Place((0, 2)).environment(restricted)["CUDA_VISIBLE_DEVICES"] == "GPU-aa,7"
    assert Place().environment(restricted) == restricted


def test_this_build_sees_as_many_gpus_as_torch() -> None:
    import torch

    assert count_gpus() == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_a_build_for_gpus_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that says it was built for CUDA is imported in a child, which says how many there are."""
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


def test_the_queue_is_kept_in_order_of_turn() -> None:
    states = [("b", RunState(turn=2.0)), ("a", RunState(turn=2.0)), ("c", RunState(turn=1.0))]
    assert in_order(states) == ["c", "a", "b"]


@pytest.fixture
def waiting(root: Path, toy: Callable[..., TrainConfig]) -> list[str]:
    """Four runs that wait, and nobody who starts them."""
    found = []
    for name in "abcd":
        found.append(create_run(root, toy(), name).name)
        time.sleep(0.002)
    return found


def test_a_waiting_run_is_moved(root: Path, waiting: list[str]) -> None:
    a, b, c, d = waiting
    assert runs.queue(root) == [a, b, c, d]
    assert runs.move(root, d, "first") == [d, a, b, c]
    assert runs.move(root, d, "earlier") == [d, a, b, c]
    assert runs.move(root, d, "later") == [a, d, b, c]
    assert runs.move(root, c, "earlier") == [a, d, c, b]
    assert runs.move(root, a, "last") == [d, c, b, a]
    assert runs.move(root, a, "last") == [d, c, b, a]
    assert runs.move(root, d, "later") == [c, d, b, a]
    late = create_run(root, files.read_config(root / a), "late").name
    assert runs.queue(root)[-1] == late, "who comes now comes last"


def test_what_does_not_wait_is_not_moved(root: Path, waiting: list[str]) -> None:
    runs.request_stop(root, waiting[1])
    with pytest.raises(RunError, match="expected a run that waits in the queue, it is stopped"):
        runs.move(root, waiting[1], "first")
    assert runs.queue(root) == [waiting[0], waiting[2], waiting[3]]


def test_an_older_versions_queue_keeps_its_order(root: Path, waiting: list[str]) -> None:
    for run_id in waiting:
        data = files.read_json(root / run_id / files.STATE)
        for name in ("turn", "gpus", "longest_gap_s"):
            del data[name]
        files.write_json(root / run_id / files.STATE, data)
    assert runs.queue(root) == waiting


@pytest.mark.skipif(os.name == "nt", reason="reads /proc")
def test_the_keeper_gives_each_gpu_to_one_run(root: Path, toy: Callable[..., TrainConfig]) -> None:
    """Two GPUs, by the keeper's option: four runs, of which one is for the CPU; the moved one starts first."""
    base = toy(epochs=1000, epoch_s=0.2)
    ids = []
    for values in ({}, {}, {"device": "cpu"}, {}, {}):
        ids.append(create_run(root, base.with_values(values), "run").name)
        time.sleep(0.002)
    runs.move(root, ids[4], "first")
    keeper = module_command(
        "core.runs.processes.queue_supervisor", str(root), "--worker", TOY, "--gpus", "2", "--idle", "5"
    )
    start_detached(keeper, root / ".supervisor.log")
    first = {run_id: wait_for(root, run_id, "running") for run_id in (ids[4], ids[0], ids[2])}
    assert {first[ids[4]].gpus, first[ids[0]].gpus} == {(0,), (1,)}
    assert first[ids[2]].gpus == ()
    assert runs.queue(root) == [ids[1], ids[3]]
    time.sleep(1.5)
    assert runs.queue(root) == [ids[1], ids[3]]
    for run_id, state in first.items():
        variables = Path(f"/proc/{state.pid}/environ").read_bytes().split(b"\0")
        assert b"GLIBC_TUNABLES=glibc.malloc.tcache_count=0" in variables
        visible = [v for v in variables if v.startswith(b"CUDA_VISIBLE_DEVICES=")]
        expected = f"CUDA_VISIBLE_DEVICES={state.gpus[0]}".encode() if state.gpus else None
        assert (visible == [expected]) if expected else (visible in ([], [os.environb.get(b"CUDA_VISIBLE_DEVICES")])), (
            run_id
        )
    freed = first[ids[0]].gpus
    runs.request_stop(root, ids[0])
    wait_for(root, ids[0], "stopped")
    assert wait_for(root, ids[1], "running").gpus == freed
    assert runs.queue(root) == [ids[3]]


def test_a_silent_run_is_called_stalled_by_its_own_measure(root: Path, waiting: list[str]) -> None:
    folder = root / waiting[0]
    state = write_state(folder, replace(read_state(folder), state="running", longest_gap_s=2.0))
    now = state.updated_at
    assert state.stalled_s(now + 100) is None
    assert state.stalled_s(now + 121) == pytest.approx(121)
    slow = replace(state, longest_gap_s=90.0)
    assert slow.stalled_s(now + 400) is None and slow.stalled_s(now + 451) == pytest.approx(451)
    for other in ("queued", "starting", "finished", "crashed"):
        assert replace(state, state=other).stalled_s(now + 10**6) is None  # type: ignore[arg-type]


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_stopped_process_is_shown_as_silent_and_left_alone(
    root: Path, toy: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

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
