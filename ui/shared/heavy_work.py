"""Work on whole volumes in the web process: each result is made once, and few at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

MAX_AT_ONCE = 2  # each holds a volume in memory, and pages need the processor too

_permits = threading.BoundedSemaphore(MAX_AT_ONCE)
_guard = threading.Lock()


@dataclass
class _Turn:
    """Threads that make or wait for one result."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0


_turns: dict[Hashable, _Turn] = {}


@contextlib.contextmanager
def one_at_a_time(key: Hashable) -> Iterator[None]:
    """A context that one thread at a time enters for a key; those that come later find the result of the first.

    Parameters
    ----------
    key : hashable. What is made in the context.
    """
    with _guard:
        turn = _turns.setdefault(key, _Turn())
        turn.threads += 1
    try:
        with turn.lock:
            yield
    finally:
        with _guard:
            turn.threads -= 1
            if not turn.threads:
                del _turns[key]


@contextlib.contextmanager
def heavy_work() -> Iterator[None]:
    """A context that at most ``MAX_AT_ONCE`` threads are in; not to be entered within itself."""
    with _permits:
        yield
