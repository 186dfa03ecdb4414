"""Runs of other hosts, as this machine finds them in a shared root."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from core.hosts import host_name
from core.presets import preset
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store.engine_records import EngineAnswer, EngineRecord, JobReport, answer_file, write_engine
from core.runs.store.heartbeat import HEARTBEAT, Beat
from core.runs.store.state import read_state, write_state

OTHER = "n1"
JOB = "7"
CLUSTER = "gpu-cluster"
SETTINGS = f'[{CLUSTER}]\nkind = "slurm"\npoll_s = 2\n'


def run_elsewhere(root: Path, state: str = "running") -> Path:
    """A run that another host trains, as it writes it."""
    folder = create_run(root, preset("quick").with_values({"path": "demo"}))
    fields = {"attempt": 1, "pid": 2, "pid_start": "other-boot:5", "shim_pid": 1, "shim_start": "other-boot:4"}
    fields |= {"pid_space": "other-boot:1", "marks": ("other-mark",)}
    written = dataclasses.replace(read_state(folder), state=state, host=OTHER, **fields)  # type: ignore[arg-type]
    write_state(folder, written)
    return folder


def moved_elsewhere(folder: Path) -> None:
    """Make a run that was trained here one that a job on a cluster has trained, as it writes it."""
    state = read_state(folder)
    moved = dataclasses.replace(
        state, host=OTHER, pid_space="other-boot:1", marks=("other-mark",), shim_start="other-boot:4"
    )
    with_job(folder)
    beat(folder, 99, state.ended_at)
    write_state(folder, moved)
    answer(folder.parent, None)  # it is asked about its living jobs alone


def beat(
    folder: Path,
    count: int,
    at: float | None = None,
    host: str = OTHER,
    clock_ahead_s: float = 0.0,
    job: tuple[str, int] = ("", 0),
) -> None:
    """The heartbeat number ``count`` of another host.

    Parameters
    ----------
    at : float, optional. When it was written, in seconds since 1970 by the clock of the file system; now by default.
    clock_ahead_s : float. Time by which the clock of the host is ahead of that.
    job : tuple of str and int. Id of its job, and how often that was restarted.
    """
    at = time.time() if at is None else at
    written = Beat(host, "other-boot", 1, *job, at + clock_ahead_s, count)
    files.write_json(folder / HEARTBEAT, dataclasses.asdict(written))
    os.utime(folder / HEARTBEAT, (at, at))


def with_job(folder: Path, job: str = JOB) -> None:
    """Give a run a job on a cluster."""
    (folder.parent / "engines.toml").write_text(SETTINGS)
    write_engine(folder, EngineRecord(CLUSTER, f"{folder.name}-1", None, job, time.time()))


def answer(root: Path, report: JobReport | None, error: str = "", count: int = 1) -> None:
    """What the cluster said last about the job."""
    path = answer_file(root, CLUSTER)
    path.parent.mkdir(exist_ok=True)
    jobs = {} if report is None else {JOB: report}
    answer = EngineAnswer(time.time(), host_name(), count, error, time.time(), jobs)
    files.write_json(path, dataclasses.asdict(answer))
