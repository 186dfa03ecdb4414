"""Memory of this machine and limits of this process, without torch. By psutil; on Linux also where psutil is not
installed, as for a benchmark of torch alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from core.compute.cgroups import memory_limits

MEMINFO = Path("/proc/meminfo")


class MachineMemory(NamedTuple):
    """Memory of the machine.

    Attributes
    ----------
    total_bytes : int. All of it.
    available_bytes : int. What processes can be given now without swapping.
    """

    total_bytes: int
    available_bytes: int


def machine_memory() -> MachineMemory:
    """The memory of this machine.

    Raises
    ------
    ModuleNotFoundError
        If psutil is not installed and this is not Linux.
    """
    if find_spec("psutil") is None and MEMINFO.is_file():
        lines = (line.split() for line in MEMINFO.read_text().splitlines())
        kib = {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1}
        return MachineMemory(1024 * kib["MemTotal"], 1024 * kib["MemAvailable"])
    import psutil

    memory = psutil.virtual_memory()
    return MachineMemory(int(memory.total), int(memory.available))


def free_memory() -> int:
    """Memory in bytes that this process can allocate now: of the machine, within the limits of the process."""
    left = [limit - used for limit, used in process_limits()]
    return max(min([machine_memory().available_bytes, *left]), 0)


def process_limits() -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of every memory limit of this process: of its control groups, and of its address space."""
    yield from memory_limits()
    if sys.platform == "linux":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            yield limit, pages * resource.getpagesize()
