"""Background jobs of the web server: child processes that run one command and leave their result in a folder.

A job is identified by its folder, which holds its output, progress and result; pages that are opened later and a
restarted server find the result there. Only its exit status says whether a job failed: a result that is missing beside
an exit status of 0 has been removed since, or was never asked of this job.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import runs
from core.compute.allocator import malloc_environment
from core.compute.priority import JOB_NICENESS, lower_priority
from core.errors import RunError
from core.processes import PROJECT, module_command, module_environment
from ui.shared.paths import runs_root

STDOUT = "stdout.txt"
STDERR = "stderr.txt"
UNREAD_S = 60.0  # age from which on the result of a job may be removed
REPORT = "report.json"  # result of the jobs that write a report
_PROGRESS = re.compile(r"progress (\d+)/(\d+)")
_running: dict[Path, subprocess.Popen[bytes]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Job:
    """The state of a job.

    Attributes
    ----------
    state : str. "none", "running", "done" or "failed".
    done, total : int. Finished steps and all steps; both 0 if unknown.
    message : str. Reason of a failure; what a running job does now, if that is not what the page names itself.
    """

    state: str
    done: int = 0
    total: int = 0
    message: str = ""


def start(folder: Path, arguments: Sequence[str]) -> None:
    """Start ``python -m core`` in the background, unless a job of this folder is running.

    Parameters
    ----------
    folder : Path. Folder of the job; earlier contents are removed.
    arguments : sequence of str. Command-line arguments of ``python -m core``.

    Raises
    ------
    RunError
        If its folder cannot be written, or the process cannot be started.
    """
    with _lock:
        process = _running.get(folder)
        if process is not None and process.poll() is None:
            return
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
            with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
                _running[folder] = subprocess.Popen(
                    module_command("core", *arguments),
                    cwd=PROJECT,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                )
        except OSError as error:
            raise RunError(
                f"{folder}: a job cannot be started: {error.strerror or error}; free space there, or start the app "
                "with SEGMENTARIUM_CHECKPOINTS set to a folder that can be written"
            ) from error
        lower_priority(_running[folder].pid, JOB_NICENESS)


def _environment() -> dict[str, str]:
    """The environment of a job.

    Beside a run that trains, threads of the job that wait for one another leave their core to it: spinning threads of
    two processes would take most of each other's time (benchmarks/NOTES.md).
    """
    environment = malloc_environment(module_environment())
    if any(run.state.active for run in runs.list_runs(runs_root())):
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment


def observe(folder: Path, complete: bool) -> Job:
    """The state of a job.

    Parameters
    ----------
    folder : Path. Folder of the job.
    complete : bool. Whether the result of the job exists.
    """
    with _lock:
        process = _running.get(folder)
        status = process.poll() if process is not None else None
    if process is not None and status is None:
        steps = _PROGRESS.findall(_tail(folder / STDERR))
        done, total = map(int, steps[-1]) if steps else (0, 0)
        return Job("running", done, total)
    if complete:
        return Job("done")
    return Job("failed", message=_reason(folder, status)) if status else Job("none")


def observe_report(folder: Path) -> Job:
    """The state of a job whose result is a report."""
    return observe(folder, (folder / REPORT).is_file())


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a finished job."""
    return read_json(folder / REPORT)


def wait(folder: Path) -> str:
    """Wait for the end of a job of this server.

    Returns
    -------
    str. Reason of its failure; empty if it succeeded, was cancelled, or there is none.
    """
    with _lock:
        process = _running.get(folder)
    status = process.wait() if process is not None else 0
    return _reason(folder, status) if status else ""


def is_running(folder: Path) -> bool:
    """Whether a job of this server is running in the folder."""
    with _lock:
        process = _running.get(folder)
        return process is not None and process.poll() is None


def cancel(folder: Path, timeout_s: float = 5.0) -> None:
    """Terminate a running job, and kill it after a timeout; no effect without a running job."""
    with _lock:
        process = _running.pop(folder, None)
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def discard(folder: Path) -> None:
    """Remove the result of a finished job; no effect on a running job."""
    with _lock:
        process = _running.get(folder)
        if process is None or process.poll() is not None:
            _running.pop(folder, None)
            shutil.rmtree(folder, ignore_errors=True)


def remove_others(folder: Path) -> None:
    """Remove the siblings of a result folder, except those of jobs that this server runs."""
    if folder.parent.is_dir():
        for old in folder.parent.iterdir():
            if old != folder:
                discard(old)


def remove_oldest(root: Path, most: int) -> None:
    """Remove the oldest folders of finished jobs below a folder, until so many are left; never one of the last minute,
    whose result may not have been read yet."""
    try:
        folders = sorted(root.iterdir(), key=lambda folder: folder.stat().st_mtime)
    except OSError:
        return
    now = time.time()
    for folder in folders[: max(0, len(folders) - most)]:
        if not is_running(folder) and now - folder.stat().st_mtime > UNREAD_S:
            shutil.rmtree(folder, ignore_errors=True)


def standard_output(folder: Path) -> dict[str, Any]:
    """The JSON object that a finished job wrote to standard output."""
    return read_json(folder / STDOUT)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def ended_by_signal(status: int) -> str:
    """What ended a process whose exit status is the negative number of a signal."""
    likely = "; most likely the memory ran out" if status == -9 else ""
    return f"the process was ended by signal {-status}{likely}"


def _reason(folder: Path, status: int) -> str:
    """Why a job failed: the signal that ended it, or the last line of its output."""
    if status < 0:
        return ended_by_signal(status)
    output = _tail(folder / STDERR).splitlines()
    lines = [line for line in output if line.strip() and not _PROGRESS.search(line)]
    return lines[-1].removeprefix("error: ") if lines else f"exit status {status}"


def _tail(path: Path, nbytes: int = 8192) -> str:
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - nbytes))
            return handle.read().decode("utf-8", "replace").replace("\r", "\n")
    except FileNotFoundError:
        return ""
