"""Tasks run in threads with one torch thread each; torch's own number of threads is unchanged, in new threads too."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from core.compute.threads import run_parallel, single_threaded, single_threaded_pool


@pytest.fixture(autouse=True, params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_tasks_run_in_different_threads_with_one_torch_thread_each(threads: int) -> None:
    seen: list[tuple[int, str]] = []
    barrier = threading.Barrier(threads)

    def task() -> None:
        seen.append((torch.get_num_threads(), threading.current_thread().name))
        barrier.wait(30)

    run_parallel([task] * threads)
    assert [n for n, _ in seen] == [1] * threads
    assert len({name for _, name in seen}) == threads


def test_number_of_torch_threads_is_unchanged_afterwards_and_in_new_threads(threads: int) -> None:
    run_parallel([partial(torch.ones, 3)] * 5)  # type: ignore[list-item]
    in_new_thread: list[int] = []
    thread = threading.Thread(target=lambda: in_new_thread.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == threads and in_new_thread == [threads]


def test_pool_threads_start_no_openmp_threads(threads: int) -> None:
    with single_threaded_pool(2, "pool") as pool:
        assert [pool.submit(torch.get_num_threads).result() for _ in range(4)] == [1] * 4
        assert torch.get_num_threads() == threads
        before = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
        pool.submit(torch.rand, 10**6).result().sum()
        assert not before or len(os.listdir("/proc/self/task")) <= before + threads  # those of the main thread


def test_error_of_a_task_is_raised() -> None:
    def fail() -> None:
        raise ValueError("a task")

    run_parallel([])
    with pytest.raises(ValueError, match="a task"):
        run_parallel([partial(print, end=""), fail])
    run_parallel([partial(print, end="")])


def test_single_threaded_block_still_runs_tasks_in_parallel(threads: int) -> None:
    barrier = threading.Barrier(threads)
    with single_threaded(), single_threaded():
        assert torch.get_num_threads() == 1
        run_parallel([partial(barrier.wait, 30)] * threads)  # type: ignore[list-item]
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="inside"), single_threaded():
        raise ValueError("inside")
    assert torch.get_num_threads() == threads
