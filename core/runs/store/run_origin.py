"""State of a run that trains on another machine, derived from its heartbeat and the report of its engine on its job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.hosts import boot_id, booted_at, host_name, machine_marks, pid_space
from core.runs.store import folder as files
from core.runs.store.engine_records import EngineRecord, JobReport, read_engine, read_report
from core.runs.store.file_clock import age_s, has_own_clock
from core.runs.store.heartbeat import HEARTBEAT, Beat, ChangeWatch, Silence, last_heard, read_beat
from core.runs.store.submissions import is_held

Fate = Literal["lives", "waits", "stalled", "unreachable", "ended"]
BEATS_S = 5.0  # a heartbeat that changed within this time is newer than the answer of an engine
UNCONFIRMED = "submission not confirmed"
RESTARTED = "the machine was restarted while it ran (or this folder was copied from another machine)"
SAME_NAME = "it was restarted, or another machine has its name: known once it has been silent for a minute"

_watch = ChangeWatch()


@dataclass(frozen=True)
class Judgement:
    """State of a run on another machine.

    Attributes
    ----------
    fate : str. "lives": its state file is valid; "waits": its job waits to be restarted; "stalled": its job runs, but
        its heartbeat has stopped; "unreachable": there is no heartbeat, and no report that it ended; "ended".
    reason : str. One sentence for users; empty for "lives".
    clock_ahead_s : float. Time by which the clock of its host is ahead of this one, estimated from its heartbeat.
    """

    fate: Fate
    reason: str = ""
    clock_ahead_s: float = 0.0


@dataclass(frozen=True)
class Origin:
    """The machine on which a run was queued or started, as recorded in its state.

    Attributes
    ----------
    host : str. Host name of the machine; empty in runs of earlier versions.
    pid_space : str. Its :func:`core.hosts.pid_space`; empty in runs of earlier versions.
    marks : tuple of str. Its :func:`core.hosts.machine_marks`; empty in runs of earlier versions.
    """

    host: str = ""
    pid_space: str = ""
    marks: tuple[str, ...] = ()

    @classmethod
    def here(cls) -> Origin:
        """The machine of this process."""
        return cls(host_name(), pid_space(), machine_marks())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        """Inverse of :func:`dataclasses.asdict`; what is missing is empty."""
        marks = tuple(str(mark) for mark in data.get("marks") or ())
        return cls(str(data.get("host") or ""), str(data.get("pid_space") or ""), marks)

    @property
    def is_own(self) -> bool:
        """Whether it is this host, also if the host was renamed since its last boot. Another machine of the same name
        is told apart by its marks, where both have some."""
        if self.pid_space and self.pid_space == pid_space():
            return True
        other_marks = self.marks and machine_marks() and set(self.marks).isdisjoint(machine_marks())
        return self.host in ("", host_name()) and not other_marks

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"another machine called {self.host}" if self.host == host_name() and not self.is_own else self.host


def is_here(origin: Origin, identity: str) -> bool:
    """Whether the PID of a process is valid on this machine.

    Parameters
    ----------
    origin : Origin. Machine on which it was started.
    identity : str. Its identity (:func:`core.runs.store.process.process_identity`).
    """
    boot, numbered, _ = identity.partition(":")
    if numbered and boot != boot_id():
        return False
    return origin.pid_space == pid_space() if origin.pid_space else origin.host in ("", host_name())


def judge(folder: Path, origin: Origin, written_at: float, begins: bool = False) -> Judgement:
    """The state of an active run that another host, or an earlier boot of this one, trains.

    A run has ended for certain only if its engine reports it, or its own machine was restarted, and its heartbeat has
    not changed for as long as a network file system may show old content.

    Parameters
    ----------
    folder : Path. The run folder.
    origin : Origin. Machine on which its trainer was started.
    written_at : float. When its state was written by the clock of its host, in seconds since 1970.
    begins : bool. Whether its trainer's parent process has claimed it: its first heartbeat follows a moment later.
    """
    beat, record, root = read_beat(folder), read_engine(folder), folder.parent
    silence = None
    if beat is not None:
        silence = _watch.silence(folder, beat, lambda: age_s(folder / HEARTBEAT, root, beat.at))
    if record is not None:
        judgement = _judge_job(root, record, beat, silence)
    else:
        if silence is None and (begins or origin.is_own):
            state_file = folder / files.STATE
            silence = _watch.silence((folder, "state"), written_at, lambda: age_s(state_file, root, written_at))
        judgement = _judge_host(root, origin, beat, silence)
    if judgement.fate != "lives" or beat is None or silence is None:
        return judgement
    return replace(judgement, clock_ahead_s=beat.at + silence.age_s - time.time())


def _judge_host(root: Path, origin: Origin, beat: Beat | None, silence: Silence | None) -> Judgement:
    host = origin.name
    if origin.is_own and silence is not None:  # an earlier boot of this machine, or another machine of its name
        if silence.certain or (silence.old and has_own_clock(root)):
            return Judgement("ended", RESTARTED)
        if silence.old or not silence.changed:
            return _unreachable(beat, silence, host, SAME_NAME if silence.old else "")
        return Judgement("lives")
    if silence is not None and not silence.old:
        return Judgement("lives")
    if _was_this_machine(origin, beat, silence):
        return Judgement("ended", f"{RESTARTED}; it was called {host} then")
    return _unreachable(beat, silence, host)


def _was_this_machine(origin: Origin, beat: Beat | None, silence: Silence | None) -> bool:
    """Whether an earlier boot of this machine trained a run under another host name.

    Clones of a machine have its marks, so the run must also have had no heartbeat since before this boot."""
    own = not set(origin.marks).isdisjoint(machine_marks())
    return own and beat is not None and beat.at < booted_at() and silence is not None and silence.certain


def _judge_job(root: Path, record: EngineRecord, beat: Beat | None, silence: Silence | None) -> Judgement:
    report, error = read_report(root, record)
    if report is not None and report.state == "waiting" and not error:
        beats = silence is not None and silence.changed and silence.age_s < BEATS_S  # it was restarted since
        return Judgement("lives") if beats else Judgement("waits", report.reason)
    if silence is not None and not silence.old:
        return Judgement("lives")
    if error or report is None:
        return _unreachable(beat, silence, why=_why_unknown(record, error))
    if report.state == "running":
        if silence is None:
            return Judgement("lives")  # it begins
        return Judgement("stalled", f"its job runs on {report.place or record.engine}, {_when_heard(beat, silence)}")
    if silence is None or silence.certain:
        return Judgement("ended", report.reason)
    return _unreachable(beat, silence, why=report.reason)


def _unreachable(beat: Beat | None, silence: Silence | None, host: str = "", why: str = "") -> Judgement:
    heard = _when_heard(beat, silence, host)
    return Judgement("unreachable", f"{heard}; {why}" if why else heard)


def _when_heard(beat: Beat | None, silence: Silence | None, host: str = "") -> str:
    if beat is None or silence is None:
        return f"nothing was heard of {host or 'it'} yet"
    return last_heard(beat.host, silence.age_s)


def describe_waiting(root: Path, record: EngineRecord) -> tuple[JobReport | None, str]:
    """The report about the job of a queued run, and a sentence why it waits."""
    if not record.job:
        return None, _why_without_job(root, record)
    report, error = read_report(root, record)
    if error or report is None:
        return report, _why_unknown(record, error)
    return report, report.reason


def is_unconfirmed(root: Path, record: EngineRecord) -> bool:
    """Whether the engine of a queued run did not say if it took it: it may have a job, whose id is not known."""
    return not record.job and (bool(record.problem) or not is_held(root, record))


def _why_without_job(root: Path, record: EngineRecord) -> str:
    """What is known of the submission of a run without a job."""
    if record.problem:
        why = record.problem.removeprefix(f"{record.engine}: ")
        next_step = "it is submitted again" if record.tried_again else "its job is looked for by its name"
        return f"{UNCONFIRMED}: {record.engine} did not say whether it took it ({why}); {next_step}"
    if is_held(root, record):
        return f"it is being submitted to {record.engine}"
    return f"{UNCONFIRMED}: it was interrupted before {record.engine} answered; its job is looked for by its name"


def _why_unknown(record: EngineRecord, error: str) -> str:
    """Why nothing is known about a job now: its engine does not answer, or was not asked."""
    why = error.removeprefix(f"{record.engine}: ")
    return f"{record.engine} does not answer: {why}" if error else f"{record.engine} was not asked about it yet"
