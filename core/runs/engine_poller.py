"""Asks the engines of a root about their jobs: in threads of the web server, and once for a command.

An engine is asked once per interval for all processes that share the root: who asks holds a lock and writes the answer
into the root, where the others read it. Pages never wait for an engine.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.errors import RunError, UserError
from core.files import FileStamp, file_stamp, may_be_present
from core.formatting import format_duration
from core.hosts import host_name
from core.runs.catalog import RunSummary, list_runs, update_index
from core.runs.engines.engine import Engine, EngineError
from core.runs.engines.registry import list_engines
from core.runs.store import folder as files
from core.runs.store.engine_records import (
    SILENT_S,
    EngineAnswer,
    EngineRecord,
    answer_age_s,
    answer_file,
    engine_of,
    read_answer,
    read_engine,
    write_engine,
)
from core.runs.store.groups import read_sweeps
from core.runs.store.heartbeat import last_heard
from core.runs.store.process import locked
from core.runs.store.reconciliation import may_be_restarted, write_reconciled_state
from core.runs.store.run_origin import is_unconfirmed
from core.runs.store.state import ENDED, OBSERVED, read_state, write_state
from core.runs.store.submissions import may_get_job

COMMAND_WAIT_S = 3.0  # a command waits so long for an engine, and goes on with its last answer
TICK_S = 1.0
SHOWN_S = 60.0  # for so long after a page showed the engines of a root, those without open runs are asked too
IDLE = "nothing runs or waits"

_threads: dict[tuple[Path, str], threading.Thread] = {}
# When this process last looked at the runs of an engine; with the stamp of the root where there were none.
_looked_at: dict[tuple[Path, str], tuple[float, FileStamp | None]] = {}
_ended: dict[Path, FileStamp] = {}  # stamps of the states of runs that have ended
_shown_at: dict[Path, float] = {}  # when a page of this process last showed the engines of a root


@dataclass(frozen=True)
class EngineRun:
    """A run that waits or trains on an engine.

    Attributes
    ----------
    run_id, name, state : str.
    job : str. Id of its job; empty without one.
    detail : str. Where it runs, or why it waits.
    """

    run_id: str
    name: str
    state: str
    job: str
    detail: str


@dataclass(frozen=True)
class EngineStatus:
    """An engine as a person sees it.

    Attributes
    ----------
    name, kind, title : str. As of :class:`~core.runs.engines.engine.Engine`.
    answers : bool or None. Whether it answered when it was last asked; ``None`` if it was not asked.
    sentence : str. Its state in words.
    runs : tuple of EngineRun. What trains and waits there.
    """

    name: str
    kind: str
    title: str
    answers: bool | None
    sentence: str
    runs: tuple[EngineRun, ...]


# --- ask --------------------------------------------------------------------------------------------------------------


def ensure_pollers(root: Path) -> None:
    """Start a thread per engine of a root in this process, which asks it as long as the process lives."""
    for engine in remote_engines(root):
        key = (root, engine.name)
        if key not in _threads or not _threads[key].is_alive():
            _threads[key] = threading.Thread(target=_poll, args=key, name=f"engine-{engine.name}", daemon=True)
            _threads[key].start()


def note_shown(root: Path) -> None:
    """Note that a page shows the engines of a root: for :data:`SHOWN_S` those without open runs are asked too, in the
    threads that ask the others."""
    _shown_at[root] = time.monotonic()


def ask_all(root: Path, wait_s: float = COMMAND_WAIT_S, idle: bool = False) -> None:
    """Ask every engine of a root whose interval has passed, in parallel.

    Parameters
    ----------
    root : Path. Checkpoints root.
    wait_s : float. Longest wait in seconds; the answer of a slower engine is read by the next process that asks.
    idle : bool. Whether those without open runs are asked too.
    """
    threads = [threading.Thread(target=ask, args=(root, engine, idle), daemon=True) for engine in remote_engines(root)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + wait_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def ask(root: Path, engine: Engine, idle: bool = False) -> bool:
    """Ask an engine about the runs that have not ended, unless another process did so within its interval, and
    write what became of them; returns whether it was asked. Without such runs it is asked only where ``idle`` is set or
    a page shows the engines, and then whether it answers."""
    key, idle = (root, engine.name), idle or _is_shown(root)
    if not _is_due(root, engine, idle):
        return False
    stamp, now = file_stamp(root), time.monotonic()
    runs = open_runs(root, engine.name)
    if not runs and not idle:
        _looked_at[key] = (now, stamp)
        return False
    path = answer_file(root, engine.name)
    try:
        path.parent.mkdir(exist_ok=True)
        with locked(path.with_suffix(".lock"), timeout_s=0.0):
            if not _is_due(root, engine, idle):
                return False
            _looked_at[key] = (now, None)
            _ask(root, engine, runs)
    except (RunError, OSError):
        return False  # another process asks just now, or the root cannot be written
    for folder in runs:
        _write_end(root, folder)
    return True


def open_runs(root: Path, engine: str) -> list[Path]:
    """Folders of the runs of an engine that do not say that they have ended, or may be started again."""
    found = []
    for folder in files.run_folders(root):
        stamp = file_stamp(folder / files.STATE)
        if _ended.get(folder) == stamp:
            continue
        try:
            record = read_engine(folder)
            if record is None or record.engine != engine:
                continue
            state = read_state(folder)
            if state.state in ENDED and not may_be_restarted(folder, state):
                _ended[folder] = stamp
            else:
                found.append(folder)
        except RunError:
            continue  # damaged: the page says so
    return found


def remote_engines(root: Path) -> list[Engine]:
    """The engines of a root that are asked; none where their file is not understood, which the page says."""
    try:
        return [engine for engine in list_engines(root) if engine.capabilities.jobs]
    except UserError:
        return []


# --- show -------------------------------------------------------------------------------------------------------------


def overview(root: Path, summaries: Sequence[RunSummary] | None = None, wait_s: float = 0.0) -> list[EngineStatus]:
    """The engines of a root, with what trains and waits on each.

    Parameters
    ----------
    root : Path. Checkpoints root.
    summaries : sequence of RunSummary, optional. All runs of the root, if they are known.
    wait_s : float. Longest time to ask engines; 0 to show the last answers.

    Raises
    ------
    ConfigError
        If ``engines.toml`` is not understood.
    """
    engines = list_engines(root)
    if wait_s:
        ask_all(root, wait_s, idle=True)
    runs = list_runs(root) if summaries is None else summaries
    going_on = [run for run in runs if run.state.state not in ENDED]
    return [_status(root, engine, going_on) for engine in engines]


def last_answer(root: Path, engine: Engine, open_runs: bool = False) -> tuple[bool | None, str]:
    """Whether an engine with jobs answered when it was last asked, ``None`` where that is not known of now, and a
    sentence about it. Of an engine with open runs a failure counts until it has answered again."""
    answer = read_answer(root, engine.name)
    if not answer.count:
        return None, "no answer yet"
    age_s = answer_age_s(root, engine.name)
    is_recent = age_s <= SILENT_S
    if answer.error and (is_recent or open_runs):
        heard = last_heard("", time.time() - answer.answered_at) if answer.answered_at else ""
        why = answer.error.removeprefix(f"{engine.name}: ")
        return False, f"does not answer: {why}" + (f"; {heard}" if heard else "")
    return True if is_recent else None, f"asked {format_duration(age_s)} ago"


def _status(root: Path, engine: Engine, going_on: Sequence[RunSummary]) -> EngineStatus:
    own = [run for run in going_on if engine_of(run.engine) == engine.name]
    answers, sentence = None, _counts(own)
    if engine.capabilities.jobs:
        answers, heard = last_answer(root, engine, bool(own))
        counts = sentence if own else IDLE
        sentence = heard if answers is False else f"{counts}; {heard}"
    return EngineStatus(engine.name, engine.kind, engine.title, answers, sentence, tuple(map(_engine_run, own)))


def _counts(own: Sequence[RunSummary]) -> str:
    """How many runs run, wait, and are in a state of which neither is known."""
    states = Counter(run.state.state for run in own)
    running = sum(count for state, count in states.items() if state not in ("queued", *OBSERVED))
    others = [f"{states[state]} {state}" for state in OBSERVED if states[state]]
    return ", ".join([f"{running} running", f"{states['queued']} waiting", *others])


def _engine_run(run: RunSummary) -> EngineRun:
    place = run.report.place if run.report is not None else run.state.host
    detail = run.state.message if run.state.message or run.state.state == "queued" else place
    return EngineRun(run.id, run.name, run.state.state, "" if run.engine is None else run.engine.job, detail)


# --- one question -----------------------------------------------------------------------------------------------------


def _poll(root: Path, name: str) -> None:
    while may_be_present(root):
        engine = next((engine for engine in remote_engines(root) if engine.name == name), None)
        if engine is None:
            return  # no longer declared
        ask(root, engine)
        time.sleep(TICK_S)


def _is_shown(root: Path) -> bool:
    return time.monotonic() - _shown_at.get(root, -math.inf) < SHOWN_S


def _is_due(root: Path, engine: Engine, idle: bool) -> bool:
    """Whether no process has asked an engine within its interval, and this one has not looked at its runs: its answer
    could not be written, or there were none, which counts until a folder is added or it is asked all the same."""
    looked_at, stamp = _looked_at.get((root, engine.name), (-math.inf, None))
    counts = stamp is None or (stamp == file_stamp(root) and not idle)
    if counts and time.monotonic() - looked_at < engine.poll_s:
        return False
    return not read_answer(root, engine.name).count or answer_age_s(root, engine.name) >= engine.poll_s


def _ask(root: Path, engine: Engine, runs: Sequence[Path]) -> None:
    last, asked_at = read_answer(root, engine.name), time.time()
    try:
        records = _with_jobs(engine, runs)
        if runs:
            jobs = engine.status_many([record.job for record in records if record.job])
        else:
            engine.ping()
            jobs = dict(last.jobs)
        for folder, record in zip(runs, records, strict=True):
            if record.job in jobs and jobs[record.job].expired:
                _resubmit(folder, engine)
        answer = EngineAnswer(asked_at, host_name(), last.count + 1, "", asked_at, jobs)
    except EngineError as error:
        answer = replace(last, asked_at=asked_at, host=host_name(), count=last.count + 1, error=str(error))
    files.write_json(answer_file(root, engine.name), asdict(answer))


def _resubmit(folder: Path, engine: Engine) -> None:
    """Submit a run again whose job has expired; one that cannot be now is with the next answer."""
    with suppress(RunError, EngineError):
        engine.resubmit(folder)


def _write_end(root: Path, folder: Path) -> None:
    """Write the final state of a run whose job ended before the run could write it. Where the folder cannot be written
    now, or not by this user, it is tried again with the next answer."""
    with suppress(RunError):
        if write_reconciled_state(folder).state in ENDED:
            update_index(root, folder)


def _with_jobs(engine: Engine, runs: Sequence[Path]) -> list[EngineRecord]:
    """The engine and job of each run. Where a submission was not answered or was interrupted, its job is looked for by
    its name, for all runs in one request and without their locks, as an engine may take long to answer."""
    records = {folder: read_engine(folder) or EngineRecord(engine.name) for folder in runs}
    without = [folder for folder in runs if _is_looked_for(folder, records[folder])]
    if without:
        jobs = engine.find([records[folder] for folder in without])
        for folder, job in zip(without, jobs, strict=True):
            with suppress(RunError):  # another process changes it, or it cannot be written: the others are asked for
                records[folder] = _note_job(folder, engine, records[folder], job)
    return list(records.values())


def _is_looked_for(folder: Path, record: EngineRecord) -> bool:
    return not record.job and is_unconfirmed(folder.parent, record)


def _note_job(folder: Path, engine: Engine, known: EngineRecord, job: str) -> EngineRecord:
    """Write the job that was found for a run; the run has failed where there is none. A run that was changed since it
    was looked for is left as it is."""
    with files.lock(folder):
        record, state = read_engine(folder) or known, read_state(folder)
        if record != known or state.state != "queued" or not _is_looked_for(folder, record):
            return record
        if job:
            record = replace(record, job=job, problem="")
            write_engine(folder, record)
        elif not may_get_job(folder, record) and not _is_trial(folder):
            asked = "it was not taken" if record.problem else "it was interrupted before there was one"
            message = f"{engine.name} has no job of its submission, {asked}; resume it"
            write_state(folder, replace(state, state="failed", message=message, ended_at=time.time()))
    return record


def _is_trial(folder: Path) -> bool:
    """Whether a sweep submits a run again, now or when it is resumed."""
    return any(folder.name in sweep.runs for sweep in read_sweeps(folder.parent))
