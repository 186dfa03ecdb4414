"""Asks the engines of a root about their jobs: in threads of the web server, and once for a command.

An engine is asked once per interval for all processes that share the root: who asks holds a lock and writes the answer
into the root, where everybody else reads it. Pages never wait for an engine.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from core.errors import RunError, UserError
from core.hosts import host_name
from core.runs.engines.engine import Engine, EngineError
from core.runs.engines.registry import list_engines
from core.runs.store import folder as files
from core.runs.store.engine_records import (
    EngineAnswer,
    EngineRecord,
    answer_age_s,
    answer_file,
    read_answer,
    read_engine,
    write_engine,
)
from core.runs.store.process import locked
from core.runs.store.state import ENDED, read_state, write_state

SUBMISSION_S = 60.0  # a job that has no number after that long was never submitted
TICK_S = 1.0

_threads: dict[tuple[Path, str], threading.Thread] = {}


@dataclass(frozen=True)
class OpenRun:
    """A run of an engine that has not ended.

    Attributes
    ----------
    folder : Path. Run folder.
    record : EngineRecord. Its engine and job.
    """

    folder: Path
    record: EngineRecord


def open_runs(root: Path, engine: str) -> list[OpenRun]:
    """Runs of an engine whose folders do not say that they have ended."""
    found = []
    for folder in files.run_folders(root):
        try:
            record = read_engine(folder)
            if record is not None and record.engine == engine and read_state(folder).state not in ENDED:
                found.append(OpenRun(folder, record))
        except RunError:
            continue  # damaged: the page says so
    return found


def ask(root: Path, engine: Engine) -> bool:
    """Ask an engine about its jobs, unless somebody did within its interval; returns whether it was asked."""
    path = answer_file(root, engine.name)
    path.parent.mkdir(exist_ok=True)
    try:
        with locked(path.with_suffix(".lock"), timeout_s=0.0):
            if answer_age_s(root, engine.name) < engine.poll_s and read_answer(root, engine.name).count:
                return False
            _ask(root, engine)
            return True
    except RunError:
        return False  # another process asks just now


def ask_all(root: Path) -> None:
    """Ask every engine of a root that has open runs, and that nobody has asked lately."""
    for engine in remote_engines(root):
        if open_runs(root, engine.name):
            ask(root, engine)


def ensure_pollers(root: Path) -> None:
    """Start a thread per engine of a root in this process, which asks it as long as the process lives."""
    for engine in remote_engines(root):
        key = (root, engine.name)
        if key not in _threads or not _threads[key].is_alive():
            thread = threading.Thread(target=_poll, args=key, name=f"engine-{engine.name}", daemon=True)
            _threads[key] = thread
            thread.start()


def remote_engines(root: Path) -> list[Engine]:
    """The engines of a root that are asked; none where its file is not understood, which the page says."""
    try:
        return [engine for engine in list_engines(root) if engine.poll_s]
    except UserError:
        return []


def _poll(root: Path, name: str) -> None:
    while root.is_dir():
        engine = next((engine for engine in remote_engines(root) if engine.name == name), None)
        if engine is None:
            return  # no longer declared
        if answer_age_s(root, name) >= engine.poll_s or not read_answer(root, name).count:
            ask(root, engine)
        time.sleep(TICK_S)


def _ask(root: Path, engine: Engine) -> None:
    last = read_answer(root, engine.name)
    runs = open_runs(root, engine.name)
    now, jobs, error, answered_at = time.time(), last.jobs, "", time.time()
    try:
        runs = [_with_job(run, engine) for run in runs]
        jobs = engine.status_many([run.record.job for run in runs if run.record.job])
    except EngineError as failed:
        error, answered_at = str(failed), last.answered_at
    answer = EngineAnswer(now, host_name(), last.count + 1, error, answered_at, jobs)
    files.write_json(answer_file(root, engine.name), answer.to_json())


def _with_job(run: OpenRun, engine: Engine) -> OpenRun:
    """A run with the number of its job, which is looked for where the submission was interrupted."""
    record = run.record
    if record.job or time.time() - record.submitted_at < SUBMISSION_S:
        return run
    with files.lock(run.folder):
        record = read_engine(run.folder) or record
        if record.job or read_state(run.folder).state != "queued":
            return OpenRun(run.folder, record)
        if job := engine.find(record):
            record = EngineRecord(record.engine, record.name, record.task, job, record.submitted_at)
            write_engine(run.folder, record)
        else:
            state = read_state(run.folder)
            message = f"its submission to {engine.name} was interrupted before it had a job; resume it"
            fields = {"state": "failed", "message": message, "ended_at": time.time()}
            write_state(run.folder, type(state)(**{**vars(state), **fields}))
    return OpenRun(run.folder, record)
