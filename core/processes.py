"""Subprocesses of this program: their command line and environment, limits of memory and time, their end with all that
they started, and children that answer questions."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from core.formatting import format_bytes
from core.paths import project_root

PROJECT = project_root()
KILL_S = 5.0  # longest wait for a process to exit after its pipes have closed, and for pipes to close after a kill
POLL_S = 0.05
MIN_WALL_S, WALL_FACTOR = 60.0, 10.0  # of the duration of a child process, whose processor time is limited


def module_command(module: str, *arguments: str) -> list[str]:
    """Command line that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """This process's environment with the project on ``PYTHONPATH``."""
    paths = [str(PROJECT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(p for p in paths if p))}


def start_json_lines_module(module: str, environment: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start a module of this program that answers lines of JSON, for a :class:`JsonLinesChild`.

    Parameters
    ----------
    module : str. Module that reads questions from standard input and writes answers to standard output, in UTF-8.
    environment : mapping of str to str. Variables beside those of :func:`module_environment`.
    **options : Further arguments of :class:`subprocess.Popen`, such as ``stderr``.
    """
    return subprocess.Popen(
        module_command(module),
        cwd=PROJECT,
        env={**module_environment(), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def reserve_stdout() -> TextIO:
    """Standard output for the answers of this process alone; what else is written to it from now on, such as by code of
    users, goes to standard error."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return answers


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, those that still exist; parents first, so that none acts on the end of a
    child."""
    if find_spec("psutil") is None:  # a benchmark on a machine with torch alone
        _kill_with_descendants(pid)
        return
    import psutil

    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _kill_with_descendants(pid: int) -> None:
    """Kill a process and its descendants by what Linux says of parents; elsewhere the process alone."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    doomed, found = list[int](), [pid]
    while found:
        doomed.append(found.pop())
        found += children.get(doomed[-1], [])
    for one in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


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


@dataclass(frozen=True)
class ExceededLimit:
    """A limit that a process exceeds.

    Attributes
    ----------
    text : str. Completes "takes": ``more than 5 s of processor time``, ``more than 2.1 GB``.
    is_waiting : bool. Whether it takes too long without using the processor, as on a disk that does not answer.
    """

    text: str
    is_waiting: bool = False


class ProcessLimits:
    """Memory and time that a child process may take from the first look at it.

    Time is that of the processor, which does not depend on what else the machine does; the duration is limited too, far
    above it, for a process that waits. On Linux such a child limits its own memory exactly; on other systems only this
    check does.

    Parameters
    ----------
    resident_bytes : int. Largest resident memory.
    cpu_s : float. Longest processor time in seconds.
    start_s : float. Additional seconds, for the process to start.
    wall_s : float, optional. Longest duration in seconds; default :data:`WALL_FACTOR` times the processor time, and at
        least :data:`MIN_WALL_S`.
    """

    def __init__(self, resident_bytes: int, cpu_s: float, start_s: float = 0.0, wall_s: float | None = None) -> None:
        self.resident_bytes, self.cpu_s, self.start_s = resident_bytes, cpu_s, start_s
        self.wall_s = max(MIN_WALL_S, WALL_FACTOR * (cpu_s + start_s)) if wall_s is None else wall_s
        self._begun = time.monotonic()
        self._used_before_s: float | None = None

    def exceeded(self, pid: int) -> ExceededLimit | None:
        """Which limit a process exceeds; ``None`` if none, or if it has ended."""
        import psutil

        used_s = 0.0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            times = process.cpu_times()
            total_s = times.user + times.system
            if self._used_before_s is None:
                self._used_before_s = total_s
            used_s = total_s - self._used_before_s
            if used_s > self.cpu_s + self.start_s:
                return ExceededLimit(f"more than {self.cpu_s:.3g} s of processor time")
            if process.memory_info().rss > self.resident_bytes:
                return ExceededLimit(f"more than {format_bytes(self.resident_bytes)}")
        if time.monotonic() - self._begun > self.wall_s:
            return ExceededLimit(f"longer than {self.wall_s:.3g} s, {used_s:.1f} s of them on the processor", True)
        return None


class LimitExceededError(Exception):
    """A child process takes more memory or time than it may.

    Attributes
    ----------
    limit : ExceededLimit. The limit.
    """

    def __init__(self, limit: ExceededLimit) -> None:
        super().__init__(limit.text)
        self.limit = limit


class JsonLinesChild:
    """A child process that answers each line of JSON with another one, started when it is needed; one question at a
    time.

    The child may exit when it is idle; the next question starts it again. A forked process does not use the child of
    its parent.

    Parameters
    ----------
    start : callable. Starts the process, with pipes of text as its standard input and output.

    Attributes
    ----------
    process : Popen, or None. The process that runs, or has ended since the last question.
    returncode : int, or None. Exit status of the last process that ended without an answer.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[str]]) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.returncode: int | None = None
        self._start = start
        self._owner = 0
        self._lines: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()

    def ask(
        self,
        question: Mapping[str, object],
        limits: Callable[[bool], ProcessLimits] | None = None,
        *,
        anew: bool = False,
    ) -> dict[str, Any] | None:
        """The answer to a question; ``None`` if the process ends without one, and a new one does too.

        Parameters
        ----------
        question : mapping. Values of JSON.
        limits : callable, optional. Takes whether the process was started for this question; returns its limits, from
            now on. Without it there are none.
        anew : bool. Whether a running process is ended first, since files that it has read may have changed.

        Raises
        ------
        LimitExceededError
            If the process exceeds a limit; it is killed.
        """
        with self._lock:
            if anew:
                self._end()
            line = self._answer(question, limits) or self._answer(question, limits)  # it may have exited just now
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def close(self) -> None:
        """End the process, after its answer to the present question."""
        with self._lock:
            self._end()

    def _answer(self, question: Mapping[str, object], limits: Callable[[bool], ProcessLimits] | None) -> str:
        """The line of the answer; empty if the process ended without one."""
        fresh = self.process is None or self._owner != os.getpid() or self.process.poll() is not None
        if fresh:
            self._begin()
        process = self.process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
        except OSError:
            self._end(KILL_S)
            return ""
        allowed = None if limits is None else limits(fresh)
        while True:
            if allowed is not None and (exceeded := allowed.exceeded(process.pid)):
                self._end()
                raise LimitExceededError(exceeded)
            with contextlib.suppress(queue.Empty):
                line = self._lines.get(timeout=None if allowed is None else POLL_S)
                if not line:
                    self._end(KILL_S)
                return line

    def _begin(self) -> None:
        self._end()
        self._lines, self._owner = queue.Queue(), os.getpid()
        self.process = self._start()
        threading.Thread(target=_collect, args=(self.process, self._lines), daemon=True).start()

    def _end(self, wait_s: float = 0.0) -> None:
        """Kill the process, if it does not end by itself within a time."""
        process, self.process = self.process, None
        if process is None or self._owner != os.getpid():
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        process.kill()
        self.returncode = process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()


def _collect(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Put each line that a process writes into a queue, and an empty one when it ends."""
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        for line in process.stdout:
            lines.put(line)
    lines.put("")
