"""One line of reason and advice for a dead trainer, from its exit status and the kernel's out-of-memory counters."""

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
    "SIGABRT": "a library aborted; log.txt may show why",
    "SIGTERM": "terminated before it could save, by a shutdown, a job scheduler or a user",
    "SIGHUP": "its terminal was closed before it could save",
    "SIGXCPU": "its CPU time limit was reached",
}


def signal_name(returncode: int) -> str | None:
    """Name of the signal that ended a process ("SIGKILL"), from its return code; ``None`` if no signal ended it."""
    if returncode >= 0:
        return None
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def describe_exit(returncode: int, before: OomKills, after: OomKills, peak_bytes: int | None) -> str:
    """Probable reason why a trainer ended without writing its final state.

    Parameters
    ----------
    returncode : int. As of :class:`subprocess.Popen`: negative for a signal.
    before, after : OomKills. Counters of out-of-memory kills before the trainer was started and after it ended.
    peak_bytes : int or None. Peak memory of the trainer, if known.
    """
    name = signal_name(returncode)
    if name is None:
        return f"its process exited with status {returncode} without a message; see log.txt"
    if name != "SIGKILL":
        return f"its process died of {name}" + (f": {_CAUSES[name]}" if name in _CAUSES else "")
    peak = f", its peak was {format_bytes(peak_bytes)}" if peak_bytes else ""
    prefix = "its process was killed by SIGKILL, which Segmentarium did not send"
    for count_before, count_after, where in (
        (before.group, after.group, "its control group"),
        (before.machine, after.machine, "this machine"),
    ):
        if count_before is not None and count_after is not None and count_after > count_before:
            evidence = f"the kernel killed for lack of memory in {where} at that time"
            return f"{prefix}: out of memory ({evidence}{peak}); {_SMALLER}"
    if after.group is None and after.machine is None:
        return f"{prefix}: probably out of memory (the kernel's counters cannot be read here{peak}); {_SMALLER}"
    evidence = "the kernel counted no such kill, so a user or a memory guard may have killed it"
    return f"{prefix}: out of memory is the usual cause, but {evidence}{peak}; it can be resumed"


def peak_memory_bytes() -> int | None:
    """Largest resident memory of any child that this process has waited for; ``None`` where it is unknown."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
