"""Parallelism over many small CPU operations: independent tasks run in a pool of threads, each with one torch thread.

Operations on pieces that fit into a core's cache take microseconds. If torch splits each one over its own threads, the
synchronisation after every operation dominates, ten times more so on a machine that is shared.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

_local = threading.local()  # num_threads: torch's number of threads outside single_threaded()


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """A context in which torch uses one thread, in the calling thread; :func:`run_parallel` still uses all of them."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    _local.num_threads = before
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        del _local.num_threads


def run_parallel(tasks: Sequence[Callable[[], None]]) -> None:
    """Run independent tasks in parallel; the first error is raised after all of them have ended."""
    threads = getattr(_local, "num_threads", torch.get_num_threads())
    if threads == 1 or len(tasks) == 1:
        with single_threaded():
            for task in tasks:
                task()
        return
    futures = [_pool(threads).submit(task) for task in tasks]
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    if errors:
        raise errors[0]


def single_threaded_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool of threads in each of which torch uses one thread.

    Needed for every Python thread that calls torch. OpenMP otherwise starts a team of threads for each of them, as
    large as the number of cores, and keeps it. With more threads than cores, the threads of training sleep instead of
    spinning at barriers, and a small step takes nearly twice as long from then on.

    Parameters
    ----------
    threads : int. Number of threads; all are started at once.
    name : str. Prefix of the threads' names.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, name, initializer=_use_one_torch_thread)
    barrier = threading.Barrier(threads)
    for future in [pool.submit(barrier.wait) for _ in range(threads)]:
        future.result()
    torch.set_num_threads(before)  # the setting is per thread, but new threads start with the last one set
    return pool


@functools.lru_cache(1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return single_threaded_pool(threads, "piece")


def _use_one_torch_thread() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # initialises the thread lazily, from the last number set in any thread: now still 1
