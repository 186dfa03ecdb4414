"""The shell of a job on any cluster: it sets up the environment of the program where the run trains."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from core.files import read_tail
from core.processes import PROJECT
from core.runs.engines.settings import EngineSettings
from core.runs.store.state import read_state

OUTPUT = "job.out"  # in the run folder: what the job's shell, and what it starts, wrote
LINES = 50


def job_name(folder: Path, queued_at: float) -> str:
    """Name of the job of a run: by its next attempt and by when it was queued, in milliseconds since 1970, as the same
    attempt may have been queued before."""
    return f"{folder.name}-{read_state(folder).attempt + 1}-{int(1000 * queued_at):x}"


def preamble(settings: EngineSettings) -> list[str]:
    """Lines that set up the environment, and change to the folder of the program."""
    project = settings.project or str(PROJECT)
    return [
        *([settings.setup] if settings.setup else []),
        f"cd {shlex.quote(project)} || exit 1",
        f"export PYTHONPATH={shlex.quote(project)}${{PYTHONPATH:+:$PYTHONPATH}}",
    ]


def python_of(settings: EngineSettings) -> str:
    """Python there, as a word of the shell."""
    return shlex.quote(settings.python or sys.executable)


def trainer_parent(settings: EngineSettings, folder: str, worker: str) -> str:
    """The last line: the shell becomes the trainer's parent process, which thus gets the signals of the cluster itself.

    Parameters
    ----------
    settings : EngineSettings. Settings of the cluster.
    folder : str. The run folder, as a word of the shell.
    worker : str. Module of the trainer process.
    """
    command = f"{python_of(settings)} -m core.runs.processes.trainer_parent {folder}"
    return f"exec {command} --worker {shlex.quote(worker)}"


def end_of(output: Path) -> str:
    """The last lines of the output of a job; empty without one."""
    return read_tail(output, LINES)
