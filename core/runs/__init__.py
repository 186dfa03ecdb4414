"""Training runs: folders, their index, and the processes that work on them.

The run folder is the truth (:mod:`core.runs.store.folder`), the database an index that can be made again. This module is all
that pages and commands need; it imports no torch, and SQLAlchemy only when the index is asked.
"""

from core.runs.backends import Engine, engine
from core.runs.catalog import (
    RunSummary,
    Turn,
    annotate,
    delete,
    find_checkpoint,
    find_run,
    get_run,
    list_runs,
    log_tail,
    metrics_after,
    move,
    queue,
    rename,
    request_stop,
    run_checkpoint,
)
from core.runs.compare import Comparison, compare, curves_csv
from core.runs.launch import duplicate, ensure_supervisor, resume, submit, supervisor_alive, wake
from core.runs.store.folder import MetricRow
from core.runs.store.state import ACTIVE, ENDED, RESUMABLE, Best, RunState, observe

__all__ = [
    "ACTIVE", "ENDED", "RESUMABLE", "Best", "Comparison", "Engine", "MetricRow", "RunState", "RunSummary", "Turn",
    "annotate", "compare", "curves_csv", "delete", "duplicate", "engine", "ensure_supervisor", "find_checkpoint",
    "find_run", "get_run", "list_runs", "log_tail", "metrics_after", "move", "observe", "queue", "rename",
    "request_stop", "resume", "run_checkpoint", "submit", "supervisor_alive", "wake",
]  # fmt: skip
