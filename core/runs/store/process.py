"""Processes and file locks: process identities, detached processes, locks shared between processes.

PIDs are reused, so a process is identified by its PID and an *identity*: on Linux the boot id and the start time in
clock ticks since boot (immune to clock changes), elsewhere its creation time. A PID means something on its own host and
boot only: see :func:`core.runs.store.run_origin.is_here`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from core.errors import RunError
from core.file_locks import try_lock
from core.hosts import boot_id
from core.processes import PROJECT, module_environment

LOCK_WAIT_S = 5.0  # longest wait for a lock, unless the caller says otherwise
_PR_SET_PDEATHSIG = 1
_detached: list[subprocess.Popen[bytes]] = []


class LockHeldError(RunError):
    """Another process holds a lock."""


def process_identity(pid: int) -> str:
    """Identity of the process with this PID, which no earlier or later process with the same PID has; empty if there
    is no such process or it is a zombie."""
    if not sys.platform.startswith("linux"):
        return _identity_by_creation_time(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else f"{boot_id()}:{fields[19]}"


def is_alive(pid: int | None, identity: str) -> bool:
    """Whether a process with this PID and this identity exists."""
    return bool(pid and identity) and process_identity(int(pid or 0)) == identity


def die_with_parent(parent_pid: int, with_signal: int = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent dies; no effect except on Linux.

    Without it, closing a terminal or killing a command leaves an orphan. If the parent is dead already, the signal is
    sent at once.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
        if os.getppid() != parent_pid:
            os.kill(os.getpid(), with_signal)


def start_detached(command: Sequence[str], log: Path) -> int:
    """Start a process in a new session, so that it survives this process, its terminal and its signals.

    Parameters
    ----------
    command : sequence of str. Command line.
    log : Path. File to which standard output and error are appended; there is no standard input.

    Returns
    -------
    int
        PID of the process.
    """
    reap_detached()
    options: dict[str, object] = {"start_new_session": True}
    if os.name == "nt":
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "DETACHED_PROCESS", 0)
        options = {"creationflags": flags}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=module_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            **options,  # type: ignore[call-overload]
        )  # fmt: skip
    _detached.append(process)
    return int(process.pid)


def reap_detached() -> None:
    """Collect the exit status of detached children that have ended, so that they do not stay zombies."""
    _detached[:] = [process for process in _detached if process.poll() is None]


@contextmanager
def locked(path: Path, timeout_s: float = LOCK_WAIT_S) -> Iterator[IO[str]]:
    """Hold an exclusive lock on a lock file; the kernel releases it when the holder dies.

    Raises
    ------
    LockHeldError
        If another process holds it for longer than ``timeout_s``.
    RunError
        If it cannot be created (read-only folder).
    """
    try:
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path.parent}: expected to be able to write there, got: {error.strerror or error}") from error
    with handle:
        deadline = time.monotonic() + timeout_s
        while not try_lock(handle):
            if time.monotonic() >= deadline:
                raise LockHeldError(f"{path}: another process has held this lock for {timeout_s:g} s; try again")
            time.sleep(0.02)
        yield handle


def _identity_by_creation_time(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
