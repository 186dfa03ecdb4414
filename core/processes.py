"""Subprocesses of this program: their command line and environment, limits of memory and time, and their end with all
that they started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from core.formatting import format_bytes
from core.paths import project_root

PROJECT = project_root()
KILL_S = 5.0  # for the outputs of a killed process to close


def module_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """This process's environment with the project on ``PYTHONPATH``."""
    paths = [str(PROJECT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(p for p in paths if p))}


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, those that still exist."""
    import psutil

    try:
        process = psutil.Process(pid)
        tree = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def run_limited(
    command: Sequence[str], limit_s: float, cwd: Path | None = PROJECT
) -> subprocess.CompletedProcess[str] | None:
    """Run a command of this program to its end, and kill it with all that it started after a time.

    Parameters
    ----------
    command : sequence of str. Command line, such as that of :func:`module_command`.
    limit_s : float. Longest duration in seconds.
    cwd : Path, optional. Working directory; ``None`` for that of this process.

    Returns
    -------
    CompletedProcess, or None
        Exit status and outputs; ``None`` if the command was killed.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=module_environment(), cwd=cwd,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        kill_tree(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a process whose parent has ended may hold the pipes
            process.communicate(timeout=KILL_S)
        return None
    except BaseException:
        kill_tree(process.pid)
        process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


class ProcessLimits:
    """Memory and time that a child process may take from now on.

    On Linux such a child limits its own memory exactly; on other systems only this check does.

    Parameters
    ----------
    resident_bytes : int. Largest resident memory.
    limit_s : float. Longest duration in seconds.
    start_s : float. Seconds more, in which the process itself starts.
    """

    def __init__(self, resident_bytes: int, limit_s: float, start_s: float = 0.0) -> None:
        self.resident_bytes, self.limit_s = resident_bytes, limit_s
        self.deadline = time.monotonic() + limit_s + start_s

    def exceeded(self, pid: int) -> str:
        """Which limit a process exceeds: ``longer than 5 s``, ``more than 2.1 GB``; empty if none."""
        import psutil

        if time.monotonic() > self.deadline:
            return f"longer than {self.limit_s:.0f} s"
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).memory_info().rss > self.resident_bytes:
                return f"more than {format_bytes(self.resident_bytes)}"
        return ""
