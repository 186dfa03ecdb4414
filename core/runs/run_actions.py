"""Actions on a run: stop, end early, rename, annotate, delete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.files import atomic_write
from core.processes import kill_tree
from core.runs.catalog import update_index
from core.runs.engines.registry import get_engine
from core.runs.store import folder as files
from core.runs.store import stop_file
from core.runs.store.engine_records import read_engine
from core.runs.store.process import is_alive
from core.runs.store.reconciliation import reconciled_state
from core.runs.store.run_origin import is_here
from core.runs.store.state import ENDED, OBSERVED, RunState, read_state, write_state


def request_stop(root: Path, run_id: str, now: bool = False) -> RunState:
    """Request a run to stop: a queued one is stopped at once, an active one saves a checkpoint and ends. On whichever
    host it trains, the request is a file in its folder.

    Parameters
    ----------
    root : Path. Checkpoints root.
    run_id : str. The run.
    now : bool. Whether the trainer is killed; progress that no checkpoint holds is lost.

    Raises
    ------
    RunError
        If there is no such run or it has ended already.
    UserError
        If the job of a run cannot be cancelled now; the request stands, and the job ends when it sees it.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state, waits = reconciled_state(folder), read_state(folder).state == "queued"
        if state.state in ENDED:
            raise RunError(f"{run_id}: expected a queued or running run, it is {state.state} already")
        if waits:  # also where its job has begun: it finds that the run is stopped, and ends
            message = "stopped while it waited in the queue"
            write_state(folder, state.ended("stopped", message))
        else:
            at_once = now or state.state == "queued"  # its job waits to be restarted: there is nothing to save
            stop_file.write_stop(folder, stop_file.AT_ONCE if at_once else "")
            here = is_here(state.origin, state.shim_start)
            if now and here and state.pid and is_alive(state.pid, state.pid_start):
                kill_tree(state.pid)
        record = read_engine(folder)
    if record is not None and record.job and (waits or now or state.state == "queued"):
        get_engine(root, record.engine).cancel(record.job)
    return reconciled_state(folder)


def what_to_do(state: RunState, run_id: str) -> str:
    """What to do about a run that is stalled or unreachable."""
    if state.state == "stalled":
        return f"wait for it, or end it: runs stop {run_id} --now"
    return f"wait for it, or, if its machine is gone for good: runs give-up {run_id}"


def prune(root: Path, run_id: str, reason: str) -> None:
    """Request a running run to save a checkpoint and end early, for a reason that its state then has as its message.

    Raises
    ------
    RunError
        If there is no such run.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        if reconciled_state(folder).state == "running":
            atomic_write(folder / stop_file.PRUNED, reason)  # first: a run that stops for it is known as pruned
            if not stop_file.stop_requested(folder):
                stop_file.write_stop(folder)


def rename(root: Path, run_id: str, name: str) -> None:
    """Change the display name of a run; its id stays. With an empty name the id is displayed.

    Raises
    ------
    RunError
        If there is no such run or the name is not allowed.
    """
    annotate(root, run_id, name=name)


def annotate(
    root: Path, run_id: str, *, name: str | None = None, notes: str | None = None, tags: Sequence[str] | None = None
) -> None:
    """Change the name, notes or tags of a run in any state; ``None`` keeps the present value.

    Raises
    ------
    RunError
        If there is no such run, or a value is not allowed.
    """
    folder = files.run_folder(root, run_id)
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = files.check_name(name)
    if notes is not None:
        changes["notes"] = files.check_notes(notes)
    if tags is not None:
        changes["tags"] = list(files.check_tags(tags))
    with files.lock(folder):
        try:
            facts = files.read_json(folder / files.RUN)
        except RunError:
            facts = {"version": 1}
        files.write_json(folder / files.RUN, {**facts, **changes})
    update_index(root, folder)


def delete(root: Path, run_id: str) -> None:
    """Remove a run folder and the run's rows in the index.

    Raises
    ------
    RunError
        If there is no such run, it is active, it is not confirmed that it has ended, or it cannot be removed. If only
        the index fails, `runs rebuild` repairs it.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state = reconciled_state(folder)
        if state.state in OBSERVED:
            raise RunError(
                f"{run_id}: it is {state.state}, and it is not confirmed that it has ended: {state.message}; "
                f"{what_to_do(state, run_id)}"
            )
        if state.active or (state.state == "queued" and read_engine(folder) is not None):
            raise RunError(f"{run_id}: it is {state.state}; stop it first, then delete it")
        doomed = root / f"{files.HIDDEN_DELETED}{run_id}"
        try:
            os.replace(folder, doomed)  # hidden at once: not listed, not started
        except OSError as error:
            raise RunError(f"{folder}: cannot be deleted: {error.strerror or error}") from error
    from core.runs.store.index import open_index

    for leftover in root.glob(f"{files.HIDDEN_DELETED}*"):  # this run, and the remains of killed deletions
        shutil.rmtree(leftover, ignore_errors=leftover != doomed)
    open_index(root).delete_run(run_id)
