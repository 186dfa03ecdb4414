"""A process that gets little processor time, as on a busy machine, however idle this one is."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

RUNS_S, STANDS_S = 0.004, 0.04


@contextlib.contextmanager
def slowed(pid: int) -> Iterator[None]:
    """Let a process run for a tenth of the time; what it waits for arrives as fast as ever."""
    ended = threading.Event()

    def stop_and_continue() -> None:
        while not ended.wait(RUNS_S):
            os.kill(pid, signal.SIGSTOP)
            ended.wait(STANDS_S)
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stop_and_continue)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
