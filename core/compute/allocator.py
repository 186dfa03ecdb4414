"""Settings of glibc's malloc for CPU tensors: keep freed memory in the process instead of returning it to the system.

glibc maps each block of 32 MiB or more and unmaps it when it is freed. A training step allocates and frees the same
blocks again and again, and the kernel zeroes every page each time: a fifth of a training step, a third of a pass over a
volume (benchmarks/NOTES.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator, Mapping

# Parameters of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
DEFAULT_MMAP_MAX = 65_536
DEFAULT_MMAP_BYTES = 32 * 2**20  # maximum of glibc's dynamic threshold; its trim threshold is twice that
RETAINED_MMAP_BYTES = 2**30  # blocks from this size on are mapped even while memory is retained
NEVER_TRIM = -1
TUNABLES = "GLIBC_TUNABLES"


@contextlib.contextmanager
def retain_freed_memory() -> Iterator[None]:
    """A context in which freed memory is retained; at its end the memory is returned and the defaults are restored."""
    set_freed_memory_retention(True)
    try:
        yield
    finally:
        set_freed_memory_retention(False)
        trim_heap()


def set_freed_memory_retention(enabled: bool) -> bool:
    """Retain freed memory for later allocations of this process, or restore glibc's defaults.

    While it is enabled, the process keeps its peak size.

    Returns
    -------
    Whether the C library supports it; no effect without glibc.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    if not mallopt(M_MMAP_THRESHOLD, RETAINED_MMAP_BYTES if enabled else DEFAULT_MMAP_BYTES):
        mallopt(M_MMAP_MAX, 0 if enabled else DEFAULT_MMAP_MAX)  # old glibc rejects thresholds above 32 MiB
    return bool(mallopt(M_TRIM_THRESHOLD, NEVER_TRIM if enabled else 2 * DEFAULT_MMAP_BYTES))


def limit_arenas(arenas: int) -> None:
    """Limit the number of heaps of this process, where the C library has several (by default eight for each core).

    A process of many threads that allocate little keeps less freed memory in fewer of them.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, arenas)


def trim_heap() -> None:
    """Return free memory to the system (malloc_trim), where the C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def malloc_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a computing process in which glibc's thread cache of small blocks is off.

    Cached small blocks fragment the heap: large tensors take a tenth to a fifth more memory, and a different amount in
    each run. glibc reads the setting at process start only; other C libraries ignore it.
    """
    tunables = environment.get(TUNABLES, "")
    if sys.platform != "linux" or "tcache_count" in tunables:
        return dict(environment)
    return {**environment, TUNABLES: ":".join(filter(None, [tunables, "glibc.malloc.tcache_count=0"]))}
