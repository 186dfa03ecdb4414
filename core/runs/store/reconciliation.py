"""State of a run as it is now: the content of ``state.json``, reconciled with the run's processes.

:func:`reconciled_state` combines ``state.json`` and ``exit.json`` with the processes that are alive, so it is right
even where every process died without a report. A run on another host is judged by its heartbeat and its engine
(:mod:`core.runs.store.run_origin`).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.hosts import host_name
from core.runs.store import folder as files
from core.runs.store import stop_file
from core.runs.store.engine_records import JobReport, read_engine, read_report
from core.runs.store.file_clock import age_s
from core.runs.store.process import is_alive
from core.runs.store.run_origin import Judgement, describe_waiting, is_here, judge
from core.runs.store.state import ENDED, RunState, State, read_state, write_state

RESTART_S = 600.0  # for so long after a signal ended its job, it is asked about, if nothing else is known
INTERRUPTED = "its job was preempted, or its node was shut down, and waits to go on"

_ended: dict[Path, tuple[tuple[int, int, int], RunState]] = {}  # of runs that have ended, with their files' stamps


def reconciled_state(folder: Path) -> RunState:
    """The state of a run, reconciled with its processes. Only reads; a damaged folder is a failed run whose message
    names the damage."""
    try:
        state = read_state(folder)
        if state.state == "queued":
            return _waiting(folder, state)
        if not state.active:
            return _restarted_later(folder, state)
        exit_record = _exit_record(folder, state.attempt)
        if exit_record is None and (is_alive(state.pid, state.pid_start) or is_alive(state.shim_pid, state.shim_start)):
            return _stopping_if_requested(folder, state)
        if exit_record is None and not is_here(state.origin, state.shim_start):
            begins = state.state == "starting"
            return _judged(folder, state, judge(folder, state.origin, state.updated_at, begins))
        # The trainer may have written its last state and exited since: read it again.
        state = read_state(folder)
        return _dead(state, exit_record or _exit_record(folder, state.attempt)) if state.active else state
    except RunError as error:
        cause = error.__cause__
        unreadable = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError | PermissionError)
        final: State = "unreachable" if unreadable else "failed"
        return RunState(state=final, message=str(error), created_at=_creation_time(folder))


def listed_state(folder: Path) -> RunState:
    """The reconciled state for lists of runs: that of an ended run is read again only once its file is replaced.

    Not for decisions under the lock of a run: a network file system may report for a minute that a file is unchanged.
    """
    try:
        status = os.stat(folder / files.STATE)
    except OSError:
        return reconciled_state(folder)
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
    kept = _ended.get(folder)
    if kept is not None and kept[0] == stamp:
        return _restarted_later(folder, kept[1])
    try:
        state = read_state(folder)
    except RunError:
        return reconciled_state(folder)
    if state.state not in ENDED:
        return reconciled_state(folder)
    _ended[folder] = (stamp, state)
    return _restarted_later(folder, state)


def may_be_restarted(folder: Path, state: RunState) -> bool:
    """Whether a run that was stopped by a signal to its job, as by preemption, may go on when its engine starts the job
    again: it waits for that, or nothing has been reported of it since."""
    report = _report_of_signalled(folder, state)
    if report is None:
        return False
    if report.state == "unknown" and not report.reason:
        return state.ended_at is not None and age_s(folder / files.STATE, folder.parent, state.ended_at) < RESTART_S
    return report.state in ("waiting", "running")


def write_reconciled_state(folder: Path) -> RunState:
    """Reconcile the state; write it where the run's processes died, or its job ended, without doing so, and where its
    engine says why its job was asked to end."""
    state = reconciled_state(folder)
    if state.state in ENDED:
        with files.lock(folder):
            state = reconciled_state(folder)
            written = read_state(folder)
            if state.state in ENDED and (written.state not in ENDED or written.message != state.message):
                state = write_state(folder, state, durable=True)
    return state


def _stopping_if_requested(folder: Path, state: RunState) -> RunState:
    return dataclasses.replace(state, state="stopping") if stop_file.stop_requested(folder) else state


def _restarted_later(folder: Path, state: RunState) -> RunState:
    """A run that has ended: queued where its job was interrupted and waits to be started again; stopped by a user
    where its job was cancelled."""
    report = _report_of_signalled(folder, state)
    if report is not None and report.cancelled:
        return dataclasses.replace(state, message=report.reason)
    if report is None or report.state != "waiting":
        return state
    return dataclasses.replace(state.observed("queued", f"{INTERRUPTED}: {report.reason}"), ended_at=None)


def _report_of_signalled(folder: Path, state: RunState) -> JobReport | None:
    """What is known of the job of a run that was stopped by a signal to it; ``None`` for any other run."""
    if state.state != "stopped":
        return None
    record = read_engine(folder)
    if record is None or not record.job or stop_file.read_stop(folder) != stop_file.SIGNALLED:
        return None
    return read_report(folder.parent, record)[0] or JobReport("unknown")


def _waiting(folder: Path, state: RunState) -> RunState:
    """The state of a queued run: that of its job, if it has one."""
    record = read_engine(folder)
    if record is None:
        if state.origin.is_own:
            return state
        where = f"it waits in the queue of {state.origin.name}; stop and resume it to train it on {host_name()}"
        return dataclasses.replace(state, message=where)
    report, reason = describe_waiting(folder.parent, record)
    if report is None or report.state == "waiting":
        return dataclasses.replace(state, message=reason)
    if report.state == "running":
        place = report.place or record.engine
        there = dataclasses.replace(state, host=place, pid_space="", marks=())  # not where it was submitted
        return dataclasses.replace(there, state="starting", what=f"its job begins on {place}")
    final: State = "stopped" if report.cancelled else "failed"
    return state.ended(final, reason)


def _judged(folder: Path, state: RunState, judgement: Judgement) -> RunState:
    """The state of an active run that another host, or an earlier boot of this one, trains."""
    if judgement.fate == "lives":
        on_this_clock = dataclasses.replace(state, updated_at=state.updated_at - judgement.clock_ahead_s)
        return _stopping_if_requested(folder, on_this_clock)
    if judgement.fate == "waits":
        return dataclasses.replace(state.observed("queued", judgement.reason), what="")
    if judgement.fate != "ended":
        return state.observed(judgement.fate, judgement.reason)
    state = read_state(folder)  # it may have written its last state since
    if not state.active:
        return state
    exit_record = _exit_record(folder, state.attempt)
    if exit_record is not None:
        return _dead(state, exit_record)
    ended = _dead(state, None, judgement.reason)
    if stop_file.read_stop(folder) != stop_file.AT_ONCE:  # for which its job is cancelled
        return ended
    return dataclasses.replace(ended, state="stopped", message=f"killed on request: {judgement.reason}")


def _creation_time(folder: Path) -> float:
    """Creation time of a run whose state cannot be read: its configuration is written once."""
    try:
        return (folder / files.CONFIG).stat().st_mtime
    except OSError:
        return 0.0


def _exit_record(folder: Path, attempt: int) -> dict[str, Any] | None:
    """``exit.json``, if it is of this attempt."""
    try:
        record = files.read_json(folder / files.EXIT)
    except RunError:
        return None
    return record if record.get("attempt") == attempt else None


def _dead(state: RunState, exit_record: dict[str, Any] | None, reason: str = "") -> RunState:
    """The final state of an active run whose trainer is dead."""
    final: State = "crashed"
    if exit_record is None:
        message = reason or "trainer and parent process died; the cause is not known"
    elif exit_record.get("killed_on_request"):
        final, message = "stopped", "killed on request; progress that no checkpoint holds is lost"
    else:
        message = str(exit_record.get("reason") or "the trainer died")
    return state.ended(final, message, (exit_record or {}).get("ended_at", state.updated_at))
