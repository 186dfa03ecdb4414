"""Records of the jobs of runs on other engines: the job of a run, and the last report of its engine about it.

``engine.json`` in a run folder names engine and job; the submitter writes it. ``.engines/NAME.json`` in the checkpoints
root is the last answer of an engine about all its jobs, written by :mod:`core.runs.engine_poller`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.errors import RunError
from core.files import StampedCache, may_be_present
from core.runs.store import folder as files
from core.runs.store.file_clock import age_s
from core.runs.store.heartbeat import OLD_S, ChangeWatch

ENGINE = "engine.json"
LOCAL = "local"  # name of the engine that is the queue of this machine
ANSWERS = ".engines"
SILENT_S = OLD_S  # an engine that has not answered for longer is unreachable

# Environment variables that a job sets for the trainer's parent process.
JOB = "SEGMENTARIUM_JOB"  # its id, as in ``engine.json``
JOB_NAME = "SEGMENTARIUM_JOB_NAME"  # its name, as there, if that is not its id
JOB_RESTART = "SEGMENTARIUM_JOB_RESTART"  # how often it was restarted
JOB_ENDS = "SEGMENTARIUM_JOB_ENDS"  # when its time limit ends it, in seconds since 1970; may be empty
JOB_SIGNAL_S = "SEGMENTARIUM_JOB_SIGNAL_S"  # seconds before that end at which it is asked to end
JOB_LIMITS_ITSELF = "SEGMENTARIUM_JOB_LIMITS_ITSELF"  # "1": its engine knows no time limit, its process ends it then
JOB_NODES = "SEGMENTARIUM_JOB_NODES"  # command that starts a process on each of several nodes, as a JSON list

JOB_RENDEZVOUS = "SEGMENTARIUM_JOB_RENDEZVOUS"  # address and port where its nodes meet
JOB_NODE = "SEGMENTARIUM_JOB_NODE"  # number of the node, set by that command
JOB_NODE_COUNT = "SEGMENTARIUM_JOB_NODE_COUNT"

JobState = Literal["waiting", "running", "ended", "unknown"]


@dataclass(frozen=True)
class EngineRecord:
    """Content of ``engine.json``.

    Attributes
    ----------
    engine : str. Name of the engine.
    name : str. Name of the job, made of run id, attempt and when it was queued; several runs of a job array share one.
    task : int or None. Number in the job array.
    job : str. Id of the job; empty while it is being submitted.
    submitted_at : float. In seconds since 1970.
    lease : str. The submission that works on it (:mod:`core.runs.store.submissions`).
    problem : str. Why the engine did not answer its last submission; empty without that.
    tried_again : bool. Whether its submitter submits it again after that, as the queue does for a sweep.
    """

    engine: str
    name: str = ""
    task: int | None = None
    job: str = ""
    submitted_at: float = 0.0
    lease: str = ""
    problem: str = ""
    tried_again: bool = False


@dataclass(frozen=True)
class JobReport:
    """Report of an engine about a job.

    Attributes
    ----------
    state : str. One of :data:`JobState`; "unknown": the engine does not know the job, or no longer.
    reason : str. One sentence for users: why it waits, or how it ended and what to do.
    place : str. Hosts, and GPUs where the engine reports them.
    cancelled : bool. Whether it was cancelled by a user.
    expired : bool. Whether the engine gave it up before it began: it is to be submitted again.
    restarts : int. How often the engine has started it again, as after a power cut; 0 where an engine restarts no job.
    """

    state: JobState
    reason: str = ""
    place: str = ""
    cancelled: bool = False
    expired: bool = False
    restarts: int = 0


@dataclass(frozen=True)
class EngineAnswer:
    """The last answer of an engine.

    Attributes
    ----------
    asked_at : float. When it was asked, in seconds since 1970.
    host : str. Host that asked.
    count : int. Number of times it was asked.
    error : str. Why it did not answer; empty if it did.
    answered_at : float. When it last answered; 0 if never.
    jobs : dict. Report by job id; the last known ones where it did not answer.
    """

    asked_at: float = 0.0
    host: str = ""
    count: int = 0
    error: str = ""
    answered_at: float = 0.0
    jobs: Mapping[str, JobReport] = field(default_factory=dict)


_records: StampedCache[EngineRecord | None] = StampedCache()
_answers: StampedCache[EngineAnswer] = StampedCache()
_watch = ChangeWatch()


def read_engine(folder: Path) -> EngineRecord | None:
    """The engine of a run, cached; ``None`` for the queue of this machine and for runs in a terminal.

    Raises
    ------
    RunError
        If its file is damaged, or cannot be read: the run may be that of a cluster.
    """
    path = folder / ENGINE

    def missing() -> EngineRecord | None:
        return _parse_record(path) if may_be_present(path) else None

    return _records.get(lambda: _parse_record(path), path, missing=missing)


def engine_of(record: EngineRecord | None) -> str:
    """Name of the engine of a run with this record."""
    return LOCAL if record is None else record.engine


def write_engine(folder: Path, record: EngineRecord) -> None:
    """Write ``engine.json``; for the queue of this machine there is none."""
    if record.engine == LOCAL:
        (folder / ENGINE).unlink(missing_ok=True)
    else:
        files.write_json(folder / ENGINE, dataclasses.asdict(record), durable=True)
    _records.forget(folder / ENGINE)


def change_engine(folder: Path, known: EngineRecord, **changes: Any) -> EngineRecord | None:
    """Change ``engine.json`` under the lock of the run, if the run still is of the same submission.

    Parameters
    ----------
    folder : Path. The run folder.
    known : EngineRecord. The record as it was read.
    **changes
        Fields with their new values.

    Returns
    -------
    EngineRecord or None
        The record as it is now; ``None`` if another submission has replaced it.
    """
    with files.lock(folder):
        _records.forget(folder / ENGINE)
        record = read_engine(folder)
        if record is None or _submission_of(record) != _submission_of(known):
            return None
        record = dataclasses.replace(record, **changes)
        write_engine(folder, record)
        return record


def _submission_of(record: EngineRecord) -> tuple[str, str, str]:
    return record.engine, record.name, record.lease


def answer_file(root: Path, engine: str) -> Path:
    """Path of the last answer of an engine."""
    return root / ANSWERS / f"{engine}.json"


def read_answer(root: Path, engine: str) -> EngineAnswer:
    """The last answer of an engine, cached; an empty one before the first."""
    path = answer_file(root, engine)
    return _answers.get(lambda: _parse_answer(path), path)


def answer_age_s(root: Path, engine: str) -> float:
    """Time since an engine was last asked, whatever the clock of the host that asked says."""
    answer = read_answer(root, engine)
    value = (answer.host, answer.count, answer.asked_at)
    return _watch.silence((root, engine), value, lambda: age_s(answer_file(root, engine), root, answer.asked_at)).age_s


def read_report(root: Path, record: EngineRecord) -> tuple[JobReport | None, str]:
    """What an engine last said about the job of a run, and why it cannot be asked now; empty if it can."""
    answer = read_answer(root, record.engine)
    error = answer.error
    if not error and answer_age_s(root, record.engine) > SILENT_S:
        error = "it was not asked recently"
    return answer.jobs.get(record.job) if record.job else None, error


def _parse_record(path: Path) -> EngineRecord | None:
    try:
        data = files.read_json(path)
        task = data.get("task")
        return EngineRecord(
            str(data["engine"]),
            str(data.get("name") or ""),
            None if task is None else int(task),
            str(data.get("job") or ""),
            float(data.get("submitted_at") or 0.0),
            str(data.get("lease") or ""),
            str(data.get("problem") or ""),
            bool(data.get("tried_again")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: expected engine and job of a run, got: {error}") from error


def _parse_report(data: Mapping[str, Any]) -> JobReport:
    """A report; what only another version writes is left out."""
    return JobReport(**{field.name: data[field.name] for field in dataclasses.fields(JobReport) if field.name in data})


def _parse_answer(path: Path) -> EngineAnswer:
    try:
        data = files.read_json(path)
        jobs = {job: _parse_report(report) for job, report in data["jobs"].items()}
        return EngineAnswer(**{**data, "jobs": jobs})
    except (RunError, KeyError, TypeError, AttributeError):
        return EngineAnswer()
