"""Keeps the memory of the web process small: what sessions and volumes have freed goes back to the system."""

from __future__ import annotations

import gc
import threading
import time
from functools import cache

from core.compute.allocator import limit_arenas, trim_heap

ARENAS = 2  # heaps; every session has threads of its own, and each heap keeps what it has freed
TRIM_INTERVAL_S = 15.0


@cache
def return_freed_memory() -> threading.Thread:
    """Start a thread that collects garbage and returns freed memory now and then; called again, the same thread."""
    limit_arenas(ARENAS)
    thread = threading.Thread(target=_trim, name="trim-heap", daemon=True)
    thread.start()
    return thread


def _trim() -> None:
    while True:
        time.sleep(TRIM_INTERVAL_S)
        gc.collect()
        trim_heap()
