"""Hands queued runs to their engines, and notes what became of that: a job, a refusal, or no answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from core.errors import ConfigError, RunError
from core.runs.catalog import RunSummary, update_index
from core.runs.engines.engine import EngineError, UnansweredError, UnsentError
from core.runs.engines.registry import get_engine
from core.runs.store import folder as files
from core.runs.store import run_origin
from core.runs.store.engine_records import change_engine, engine_of, read_engine, write_engine
from core.runs.store.state import read_state, write_state
from core.runs.store.submissions import current_lease, is_held, submission

WORKER = "core.runs.processes.worker"


def start_queued(root: Path, run_ids: Sequence[str], worker: str = WORKER, *, tried_again: bool = False) -> None:
    """Have the engines of queued runs start them; an engine gets all of its runs at once.

    Parameters
    ----------
    root : Path. Checkpoints root.
    run_ids : sequence of str. The runs.
    worker : str. Module of the trainer process.
    tried_again : bool. Whether the caller submits runs again where their engine does not answer.

    Raises
    ------
    UserError
        If an engine refuses them, or cannot be reached; then those that it did not take have failed with that reason.
        Where it got them and does not answer, they stay queued, and their submission is not confirmed: it may have
        taken them. So do those that are tried again, in both cases.
    """
    by_engine: dict[str, list[Path]] = {}
    for run_id in run_ids:
        folder = files.run_folder(root, run_id)
        by_engine.setdefault(engine_of(read_engine(folder)), []).append(folder)
    for name, folders in by_engine.items():
        lease: str | None = None
        earlier = {folder: _job_name(folder) for folder in folders}
        try:
            with submission_to(root, name) as lease:
                for folder in folders:
                    _lease(folder)
                get_engine(root, name).submit(folders, worker)
        except (EngineError, ConfigError) as error:
            unanswered = isinstance(error, UnansweredError) and (tried_again or not isinstance(error, UnsentError))
            for folder in folders:
                # One that was not answered before may have a job, unless its name is new: then there was none.
                if unanswered or (earlier[folder] and earlier[folder] == _job_name(folder)):
                    _note_problem(folder, str(error), lease, tried_again)
                else:
                    _refuse(root, folder, str(error), lease)
            if not unanswered:
                raise


def submission_to(root: Path, engine: str) -> AbstractContextManager[str | None]:
    """A context in which runs are made and submitted: as long as it lasts, a run without a job counts as being
    submitted. The queue of this machine needs none.

    Raises
    ------
    ConfigError
        If there is no such engine.
    """
    return submission(root) if get_engine(root, engine).capabilities.jobs else nullcontext()


def is_unconfirmed(run: RunSummary) -> bool:
    """Whether a run waits whose engine did not say if it took it: it may have a job there."""
    if run.state.state != "queued" or run.engine is None:
        return False
    return run_origin.is_unconfirmed(run.folder.parent, run.engine)


def submit_again(root: Path, run_ids: Sequence[str], worker: str = WORKER) -> list[str]:
    """Submit those of some runs that wait without a job again, as :func:`start_queued` does. An engine is asked first
    for the job of the earlier submission, by its name, so that no run gets a second one. Returns their ids.

    Raises
    ------
    RunError
        If another process submits one of them just now.
    EngineError
        If an engine refuses them.
    """
    with submission(root):
        taken = [run_id for run_id in run_ids if _take_over(files.run_folder(root, run_id))]
        start_queued(root, taken, worker)
    return taken


def _take_over(folder: Path) -> bool:
    """Take over the submission of a run that waits without a job; its name stays. Returns whether it was such a run.

    Raises
    ------
    RunError
        If another process submits it just now.
    """
    with files.lock(folder):
        record = read_engine(folder)
        if record is None or record.job or read_state(folder).state != "queued":
            return False
        if is_held(folder.parent, record) and record.lease != current_lease():
            raise RunError(f"{folder.name}: it is being submitted to {record.engine} just now; wait for its answer")
        write_engine(folder, replace(record, lease=current_lease(), submitted_at=time.time(), problem=""))
        return True


def waits_without_job(folder: Path) -> bool:
    """Whether a run waits that is to be submitted to an engine and has no job, as far as is known."""
    try:
        record = read_engine(folder)
        return record is not None and not record.job and read_state(folder).state == "queued"
    except RunError:
        return False  # damaged: the page says so


def _job_name(folder: Path) -> str:
    """Name of the job of a run; empty before it is submitted, and without an engine."""
    record = read_engine(folder)
    return "" if record is None else record.name


def _lease(folder: Path) -> None:
    """Write into the record of a run without a job that it is submitted now."""
    record = read_engine(folder)
    if record is not None and not record.job and (record.problem or record.lease != current_lease()):
        change_engine(folder, record, lease=current_lease(), submitted_at=time.time(), problem="")


def _note_problem(folder: Path, problem: str, lease: str | None, tried_again: bool) -> None:
    """Write into the record of a run without a job why its engine did not answer."""
    record = read_engine(folder)
    if record is not None and not record.job and record.lease == lease:
        change_engine(folder, record, submitted_at=time.time(), problem=problem, tried_again=tried_again)


def _refuse(root: Path, folder: Path, reason: str, lease: str | None) -> None:
    """Set a queued run that its engine did not take to failed, unless it was queued again in the meantime."""
    with files.lock(folder):
        state, record = read_state(folder), read_engine(folder)
        if state.state != "queued" or (record is not None and (record.job or lease not in (None, record.lease))):
            return
        write_state(folder, replace(state, state="failed", message=reason, ended_at=time.time()))
    update_index(root, folder)
