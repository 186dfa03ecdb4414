"""Memory of this machine, by psutil; on Linux also where psutil is not installed, as for a benchmark of torch alone."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

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
