"""Many small operations on a CPU: one thread of torch for each piece of the work, several pieces at once.

Operations on pieces that fit into a core's cache take microseconds. Where torch divides each of them among its threads,
these wait for one another after every one: slow, and ten times slower where others use the machine too.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

_here = threading.local()  # threads: how many torch had here before one_thread()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Meanwhile torch uses one thread here, for what is not worth dividing; :func:`on_all_threads` uses all as ever."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    _here.threads = before
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        del _here.threads


def on_all_threads(works: Sequence[Callable[[], None]]) -> None:
    """Do works that do not depend on one another; an error in one of them is raised when all are done."""
    threads = getattr(_here, "threads", torch.get_num_threads())
    if threads == 1 or len(works) == 1:
        with one_thread():
            for work in works:
                work()
        return
    futures = [_pool(threads).submit(work) for work in works]
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    if errors:
        raise errors[0]


def lone_threads(threads: int, name: str) -> ThreadPoolExecutor:
    """Threads in which torch uses no others.

    Every thread that works with torch needs this. Otherwise OpenMP keeps as many more threads for it as there are
    cores; from then on there are more than the machine has, those of training no longer wait for one another by
    spinning but sleep, and a small step takes nearly twice as long, for good.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, name, initializer=_alone)
    everybody = threading.Barrier(threads)
    for future in [pool.submit(everybody.wait) for _ in range(threads)]:
        future.result()
    torch.set_num_threads(before)  # each thread has a number of its own, but new ones begin with the last that was set
    return pool


@functools.lru_cache(1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return lone_threads(threads, "piece")


def _alone() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread looks once at the number to begin with, at the first question
