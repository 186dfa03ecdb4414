"""What the C library does with memory that tensors on a CPU give back.

glibc asks the system for each block of 32 MiB or more, hands it back as soon as it is free, and trims what it holds
besides. A training step frees and takes the same blocks again and again, and the system fills each page with zeros
first: a fifth of a step, a third of a pass over a volume (benchmarks/NOTES.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator, Mapping

# Names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
TUNABLES = "GLIBC_TUNABLES"
NEVER = -1
MAPPED_FROM = 2**30  # bytes; a block that large is worth its own place
USUAL_MAPPED_FROM = 32 * 2**20  # where glibc's own threshold ends up, and twice that for trimming


@contextlib.contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Meanwhile freed memory is kept; at the end it is given back, and the C library does as it does by itself."""
    enable_freed_memory_retention()
    try:
        yield
    finally:
        enable_freed_memory_retention(False)
        give_back()


def malloc_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that computes: glibc keeps no small blocks aside there.

    Those lie scattered over the heap, and large tensors that come after them find no room between: a tenth to a fifth
    more memory, and another amount every time. It has to be said before the process starts; elsewhere it means nothing.
    """
    said = environment.get(TUNABLES, "")
    if sys.platform != "linux" or "tcache_count" in said:
        return dict(environment)
    return {**environment, TUNABLES: ":".join(filter(None, [said, "glibc.malloc.tcache_count=0"]))}


def give_back() -> None:
    """Hand memory that is free to the system, as far as the C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def enable_freed_memory_retention(keep: bool = True) -> bool:
    """Keep memory that is freed for the next who asks in this process; with ``False`` as glibc does by itself.

    For a process that computes and ends: it stays as large as it once was. Returns whether the C library can do this;
    where it is not glibc, nothing happens.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    if not mallopt(M_MMAP_THRESHOLD, MAPPED_FROM if keep else USUAL_MAPPED_FROM):
        mallopt(M_MMAP_MAX, 0 if keep else 65_536)  # an old glibc takes no higher threshold
    return bool(mallopt(M_TRIM_THRESHOLD, NEVER if keep else 2 * USUAL_MAPPED_FROM))
