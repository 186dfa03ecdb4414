"""Where a run of a cluster trains, or trained last, and how often its engine started it again."""

from __future__ import annotations

from dataclasses import dataclass

from core.runs.catalog import RunSummary
from core.runs.store.heartbeat import read_beat


@dataclass(frozen=True)
class RunPlace:
    """Place of a run.

    Attributes
    ----------
    hosts : str. Its hosts; with its GPUs while its engine reports them. Empty before it begins.
    attempt : int. Number of times that it began, by a restart of its job or by a resume.
    restarts : int. How often its engine has started its last job again, as after a preemption or a power cut.
    """

    hosts: str
    attempt: int
    restarts: int

    @property
    def history(self) -> str:
        """Attempt and restarts in words; empty at the first attempt."""
        if not self.restarts:
            return f"attempt {self.attempt}" if self.attempt > 1 else ""
        times = "once" if self.restarts == 1 else f"{self.restarts} times"
        return f"attempt {self.attempt}, job restarted {times}"


def run_place(run: RunSummary) -> RunPlace:
    """The place of a run, from the last report of its engine and from its folder, which outlives that report."""
    state, report, job = run.state, run.report, "" if run.engine is None else run.engine.job
    began_there = run.engine is None or state.active or (state.started_at or 0.0) >= state.queued_at
    hosts = (report.place if report is not None else "") or (state.host if began_there else "")
    restarts = 0 if report is None else report.restarts
    if job and (beat := read_beat(run.folder)) is not None and beat.job == job:
        restarts = max(restarts, beat.restart)
    return RunPlace(hosts, state.attempt, restarts)
