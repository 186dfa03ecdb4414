"""Background jobs whose result is the JSON that their command writes to standard output: a few at once, kept for a
while."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ui.shared import jobs
from ui.shared.jobs import Job


class ReportJobs:
    """Jobs of one kind, each in a folder of its own below one folder.

    Parameters
    ----------
    most_at_once : int. Jobs that run at the same time; the others wait.
    most_kept : int. Results that are kept; the oldest are removed.
    """

    def __init__(self, most_at_once: int, most_kept: int) -> None:
        self._most_at_once = most_at_once
        self._most_kept = most_kept
        self._lock = threading.Lock()
        self._started: set[Path] = set()  # folders of jobs of this server

    def advance(self, folder: Path, arguments: Sequence[str]) -> Job:
        """The state of a job, which is started unless it has failed; it waits while others run.

        Parameters
        ----------
        folder : Path. Folder of the job.
        arguments : sequence of str. Arguments of ``python -m core``.
        """
        with self._lock:
            job = jobs.observe(folder, read_report(folder) is not None)
            if job.state != "none":
                return job
            self._started.intersection_update([other for other in self._started if jobs.is_running(other)])
            if len(self._started) < self._most_at_once:
                jobs.remove_oldest(folder.parent, self._most_kept)
                jobs.start(folder, arguments)
                self._started.add(folder)
        return Job("running")


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a finished job; ``None`` if there is none."""
    if jobs.is_running(folder):
        return None
    try:
        return jobs.standard_output(folder)
    except (OSError, ValueError):
        return None
