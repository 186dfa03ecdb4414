"""Priorities of processes: pages are served first, then background jobs compute and runs prepare, then runs train."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

PRIORITY_VARIABLE = "SEGMENTARIUM_PRIORITY"
JOB_NICENESS, TRAINER_NICENESS = 5, 10  # added to that of the process that starts them
MAX_NICENESS = 19


def lower_priority(pid: int, niceness: int, *, whole_session: bool = False) -> None:
    """Lower the priority of a process with its threads and descendants; what they start inherits it.

    No effect on a process that has ended, where the system does not allow it, or where ``SEGMENTARIUM_PRIORITY`` is
    "same", for instance on a machine that is used for training only.

    Parameters
    ----------
    niceness : int. Added to the present niceness (POSIX); on Windows any number is "below normal".
    whole_session : bool. Whether the session that this process leads, if the other one is in it, has no other work:
        Linux may weigh whole sessions against each other (sched_autogroup); niceness then counts within one only.
    """
    import psutil

    if os.environ.get(PRIORITY_VARIABLE, "").strip().lower() == "same":
        return
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
            return
        for one in (process, *process.children(recursive=True)):
            _lower_threads(one, niceness)
        if whole_session and os.getsid(pid) == os.getpid():
            group = Path("/proc/self/autogroup")
            group.write_text(str(min(int(group.read_text().split()[-1]) + niceness, MAX_NICENESS)))


def _lower_threads(process: psutil.Process, niceness: int) -> None:
    """Add to the niceness of a process; on Linux each of its threads has one of its own."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        ids = [thread.id for thread in process.threads()] if sys.platform == "linux" else [process.pid]
        for id in ids:
            os.setpriority(os.PRIO_PROCESS, id, min(os.getpriority(os.PRIO_PROCESS, id) + niceness, MAX_NICENESS))
