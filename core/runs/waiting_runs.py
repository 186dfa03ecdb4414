"""The queue of this machine: its order, and moving a run in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from core.errors import RunError
from core.runs.catalog import RunSummary, update_index
from core.runs.engines.local import in_queue_here
from core.runs.store import folder as files
from core.runs.store.engine_records import read_engine
from core.runs.store.gpu_slots import queue_order
from core.runs.store.reconciliation import listed_state, reconciled_state
from core.runs.store.state import write_state

QueuePosition = Literal["first", "earlier", "later", "last"]


def queued_runs(root: Path) -> list[str]:
    """Ids of the runs in the queue of this machine, in queue order."""
    states = ((folder, listed_state(folder)) for folder in files.run_folders(root))
    return queue_order((folder.name, state) for folder, state in states if in_queue_here(folder, state))


def queue_of(runs: Sequence[RunSummary]) -> list[str]:
    """The queue of this machine, of all runs of a root that were listed just now, which are not read again."""
    waiting = (run for run in runs if run.state.state == "queued" and run.engine is None and run.state.origin.is_own)
    return queue_order((run.id, run.state) for run in waiting)


def move_in_queue(root: Path, run_id: str, to: QueuePosition) -> list[str]:
    """Move a queued run to the front or the end of the queue, or past one other run; returns the new order.

    Raises
    ------
    RunError
        If there is no such run or it is not queued.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state = reconciled_state(folder)
        if state.state != "queued":
            raise RunError(f"{run_id}: expected a run that waits in the queue, it is {state.state}")
        if not in_queue_here(folder, state):
            record = read_engine(folder)
            other = state.origin.name if record is None else record.engine
            raise RunError(f"{run_id}: expected a run in the queue of this machine, it waits in that of {other}")
        order = queued_runs(root)
        before = order.index(run_id)
        order.remove(run_id)
        last = len(order)
        after = {"first": 0, "earlier": max(before - 1, 0), "later": min(before + 1, last), "last": last}[to]
        if after != before:
            turns = [reconciled_state(root / other).turn for other in order]
            turn = _turn_between(turns[after - 1] if after else None, turns[after] if after < len(turns) else None)
            write_state(folder, replace(state, turn=turn))
    update_index(root, folder)
    return queued_runs(root)


def _turn_between(previous: float | None, following: float | None) -> float:
    """A turn between those of two neighbours in the queue; at its end one that precedes every run queued later."""
    if previous is None:
        return (following or 0.0) - 1.0
    return max(time.time(), previous + 1e-6) if following is None else (previous + following) / 2
