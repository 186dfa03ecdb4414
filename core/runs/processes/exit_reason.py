"""How a trainer died: what happened and what to do, in a line, from its exit status and the kernel's counters."""

from __future__ import annotations

import signal
import sys

from core.compute.cgroups import OomKills
from core.formatting import format_bytes

_SMALLER = "try a smaller --sub-volume, --batch-size or --channels"
_CAUSES = {
    "SIGSEGV": "a fault in native code; log.txt may show where",
    "SIGBUS": "a memory-mapped file or shared memory could not be read; is a disk or /dev/shm full?",
    "SIGILL": "the processor lacks an instruction that a library uses",
    "SIGFPE": "a fault in native arithmetic; log.txt may show where",
    "SIGABRT": "a library gave up; log.txt may say why",
    "SIGTERM": "something ended it before it could save; a shutdown, a job scheduler or a person",
    "SIGHUP": "its terminal was closed before it could save",
    "SIGXCPU": "its limit of CPU time was used up",
}


def signal_name(returncode: int) -> str | None:
    """The name of the signal that ended a process (``SIGKILL``), from its return code; ``None`` if none did."""
    if returncode >= 0:
        return None
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def reason(returncode: int, before: OomKills, after: OomKills, peak_bytes: int | None) -> str:
    """What probably happened to a trainer that ended without saying so itself."""
    name = signal_name(returncode)
    if name is None:
        return f"its process exited with status {returncode} without saying why; see log.txt"
    if name != "SIGKILL":
        return f"its process died of {name}" + (f": {_CAUSES[name]}" if name in _CAUSES else "")
    peak = f", its peak was {format_bytes(peak_bytes)}" if peak_bytes else ""
    killed_by = "its process was killed by SIGKILL, which Segmentarium did not send"
    for count_before, count_after, where in (
        (before.group, after.group, "its control group"),
        (before.machine, after.machine, "this machine"),
    ):
        if count_before is not None and count_after is not None and count_after > count_before:
            killed = f"the kernel killed for lack of memory in {where} just then"
            return f"{killed_by}: out of memory ({killed}{peak}); {_SMALLER}"
    if after.group is None and after.machine is None:
        return f"{killed_by}: probably out of memory (the kernel's own count cannot be read here{peak}); {_SMALLER}"
    counted = "the kernel counted no such kill, so a person or a memory guard may have ended it"
    return f"{killed_by}: out of memory is the usual cause, but {counted}{peak}; it can be resumed"


def peak_memory_bytes() -> int | None:
    """The largest resident memory of any child that this process has waited for; ``None`` where that is not known."""
    if sys.platform == "win32":
        return None
    import resource

    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return int(largest) * (1 if sys.platform == "darwin" else 1024)
