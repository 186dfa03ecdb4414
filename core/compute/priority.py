"""Priorities of processes: pages are served first, then background jobs compute, then runs train."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

PRIORITY_VARIABLE = "SEGMENTARIUM_PRIORITY"
JOB_NICENESS, TRAINER_NICENESS = 5, 10  # added to that of the process that starts them
MAX_NICENESS = 19


def lower_priority(pid: int, niceness: int) -> None:
    """Lower the priority of a process that was just started; threads and processes that it starts inherit it.

    No effect on a process that has ended, where the system does not allow it, or where ``SEGMENTARIUM_PRIORITY`` is
    "same": on a machine that is there to train, for instance.

    Parameters
    ----------
    niceness : int. Added to the present niceness (POSIX); on Windows any number is "below normal".
    """
    import psutil

    if os.environ.get(PRIORITY_VARIABLE, "").strip().lower() == "same":
        return
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
            return
        process.nice(min(process.nice() + niceness, MAX_NICENESS))
        if os.getsid(pid) == os.getpid():
            # Linux may weigh whole sessions against each other (sched_autogroup): the niceness of a process then counts
            # within its session only. This session has no other work.
            Path("/proc/self/autogroup").write_text(str(niceness))
