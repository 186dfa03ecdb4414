"""The job of an engine that this process belongs to: what its script has put into the environment."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

from core.runs.store.engine_records import (
    JOB,
    JOB_ENDS,
    JOB_LIMITS_ITSELF,
    JOB_NAME,
    JOB_NODES,
    JOB_RESTART,
    JOB_SIGNAL_S,
    EngineRecord,
)

SIGNAL_EARLY_S = 60.0  # Slurm sends the signal up to so much earlier than it was asked to


@dataclass(frozen=True)
class EngineJob:
    """A job.

    Attributes
    ----------
    id : str. Its id; empty without a job.
    restart : int. How often the engine has restarted it.
    ends_at : float or None. When its time limit ends it, in seconds since 1970.
    nodes : tuple of str. Command that starts a process on each of its nodes; empty for one node.
    signal_s : float. Time before ``ends_at`` at which its engine signals that the time limit is near, in seconds; the
        default is that of jobs which an earlier version submitted.
    name : str. Its name, where that is not its id; empty for jobs which an earlier version submitted.
    limits_itself : bool. Whether its engine knows no time limit, so that its own process ends it at ``ends_at``.
    """

    id: str = ""
    restart: int = 0
    ends_at: float | None = None
    nodes: tuple[str, ...] = ()
    signal_s: float = 120.0
    name: str = ""
    limits_itself: bool = False

    @property
    def is_over(self) -> bool:
        """Whether this process is to end it now, as its time limit is reached."""
        return self.limits_itself and self.ends_at is not None and time.time() >= self.ends_at

    def is_of(self, record: EngineRecord) -> bool:
        """Whether it is the job of a run: by its name, and by its id once the submitter has noted it. A job of an
        earlier submission, which was not cancelled, has another name; one of another cluster may have the same id."""
        if self.name and self.name != record.name:
            return False
        return self.id == record.job if record.job else bool(record.name) and record.name in (self.name, self.id)

    def why_signalled(self) -> str:
        """Why the engine asked the job to end just now."""
        if self.ends_at is not None and self.ends_at - time.time() < self.signal_s + SIGNAL_EARLY_S:
            return "out of time: the time limit of its job was reached"
        return "its job was asked to end: preempted, cancelled, or its node is to be shut down"


def engine_job() -> EngineJob:
    """The job of this process; without an id if it belongs to none."""
    given = os.environ.get
    ends_at = float(given(JOB_ENDS) or 0) or None
    nodes, signal_s = tuple(json.loads(given(JOB_NODES) or "[]")), float(given(JOB_SIGNAL_S) or EngineJob.signal_s)
    name, limits_itself = given(JOB_NAME, ""), given(JOB_LIMITS_ITSELF) == "1"
    return EngineJob(given(JOB, ""), int(given(JOB_RESTART) or 0), ends_at, nodes, signal_s, name, limits_itself)
