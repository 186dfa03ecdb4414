"""Pieces of work get one thread each; torch's own number of threads stays what it was, also in new threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from core.compute.threads import lone_threads, on_all_threads, one_thread


@pytest.fixture(autouse=True, params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_piece_is_done_by_one_thread_of_several(threads: int) -> None:
    seen: list[tuple[int, str]] = []
    everybody = threading.Barrier(threads)

    def work() -> None:
        seen.append((torch.get_num_threads(), threading.current_thread().name))
        everybody.wait(30)

    on_all_threads([work] * threads)
    assert [n for n, _ in seen] == [1] * threads
    assert len({name for _, name in seen}) == threads


def test_torch_keeps_its_threads(threads: int) -> None:
    on_all_threads([partial(torch.ones, 3)] * 5)  # type: ignore[list-item]
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == threads and found == [threads]


def test_a_lone_thread_has_no_others(threads: int) -> None:
    """OpenMP would keep a second team for it, and slow the first one down."""
    with lone_threads(2, "lone") as pool:
        assert [pool.submit(torch.get_num_threads).result() for _ in range(4)] == [1] * 4
        assert torch.get_num_threads() == threads
        before = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
        pool.submit(torch.rand, 10**6).result().sum()
        assert not before or len(os.listdir("/proc/self/task")) <= before + threads  # those of this thread alone


def test_an_error_is_raised_and_nothing_is_nothing() -> None:
    def fail() -> None:
        raise ValueError("a piece")

    on_all_threads([])
    with pytest.raises(ValueError, match="a piece"):
        on_all_threads([partial(print, end=""), fail])
    on_all_threads([partial(print, end="")])


def test_one_thread_meanwhile_but_all_for_pieces(threads: int) -> None:
    everybody = threading.Barrier(threads)
    with one_thread(), one_thread():
        assert torch.get_num_threads() == 1
        on_all_threads([partial(everybody.wait, 30)] * threads)  # type: ignore[list-item]
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert torch.get_num_threads() == threads
