"""The job of an engine that this process belongs to: what its script has put into the environment."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

from core.runs.store.engine_records import JOB, JOB_ENDS, JOB_NODES, JOB_RESTART

TIME_LIMIT_S = 150.0  # a signal that comes so long before the end is about the time limit
_RESUME = "it goes on from its last checkpoint when it is resumed"


@dataclass(frozen=True)
class EngineJob:
    """A job.

    Attributes
    ----------
    id : str. Its id; empty without a job.
    restart : int. How often the engine has restarted it.
    ends_at : float or None. When its time limit ends it, in seconds since 1970.
    nodes : tuple of str. Command that starts a process on each of its nodes; empty for one node.
    """

    id: str = ""
    restart: int = 0
    ends_at: float | None = None
    nodes: tuple[str, ...] = ()

    def why_signalled(self) -> str:
        """Why the engine told the job to end just now."""
        if self.ends_at is not None and self.ends_at - time.time() < TIME_LIMIT_S:
            return f"out of time: the time limit of its job was reached; {_RESUME}"
        return f"its job was told to end: preempted, cancelled, or its node is to be shut down; {_RESUME}"


def engine_job() -> EngineJob:
    """The job of this process; without an id if it belongs to none."""
    given = os.environ.get
    ends_at = float(given(JOB_ENDS) or 0) or None
    return EngineJob(given(JOB, ""), int(given(JOB_RESTART) or 0), ends_at, tuple(json.loads(given(JOB_NODES) or "[]")))
