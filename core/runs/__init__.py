"""Training runs: run folders, their index, and the processes that train them.

The run folder (:mod:`core.runs.store.folder`) is the source of truth; the database is an index that can be rebuilt from
it. Pages and commands need only this module. It does not import torch, and imports SQLAlchemy only with the index.
"""

from core.runs.catalog import (
    RunSummary,
    find_checkpoint,
    find_run,
    get_run,
    list_runs,
    log_tail,
    matching_ids,
    run_checkpoint,
)
from core.runs.compare import Comparison, compare, curves_csv, distinct_names
from core.runs.engines.local import supervisor_alive
from core.runs.launch import duplicate, ensure_supervisor, resume, serve_queue, start_queued, submit
from core.runs.measurements import metrics_after
from core.runs.notify import describe_end
from core.runs.run_actions import annotate, delete, rename, request_stop
from core.runs.store.metrics_file import MetricRow
from core.runs.store.pictures import ValidationPicture, list_pictures
from core.runs.store.state import ACTIVE, ENDED, OBSERVED, RESUMABLE, STOPPABLE, Best, RunState
from core.runs.waiting_runs import QueuePosition, move_in_queue, queue_of, queued_runs

__all__ = [
    "ACTIVE", "ENDED", "OBSERVED", "RESUMABLE", "STOPPABLE", "Best", "Comparison", "MetricRow", "QueuePosition",
    "RunState", "RunSummary", "ValidationPicture", "annotate", "compare", "curves_csv", "delete", "describe_end",
    "distinct_names", "duplicate", "ensure_supervisor", "find_checkpoint", "find_run", "get_run", "list_pictures",
    "list_runs", "log_tail", "matching_ids", "metrics_after", "move_in_queue", "queue_of", "queued_runs", "rename",
    "request_stop", "resume", "run_checkpoint", "serve_queue", "start_queued", "submit", "supervisor_alive",
]  # fmt: skip
