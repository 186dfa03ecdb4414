"""Processes and locks: who is alive, who starts whom, and a lock that processes share.

A pid alone says little, because pids are used again. A process is known here by its pid and its *identity*: on Linux
the boot it belongs to and its start in clock ticks since that boot (immune to clock changes), elsewhere its creation
time.
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
from functools import cache
from pathlib import Path
from typing import IO

from core.errors import RunError
from core.paths import project_root

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PROJECT = project_root()
_PR_SET_PDEATHSIG = 1
_started: list[subprocess.Popen[bytes]] = []


def identity(pid: int) -> str:
    """What tells this process from every other that ever had its pid; empty if there is none or it is a zombie."""
    if not sys.platform.startswith("linux"):
        return _identity_elsewhere(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else f"{boot_id()}:{fields[19]}"


def alive(pid: int | None, process_identity: str) -> bool:
    """Whether the process with this pid is still the one that had this identity."""
    return bool(pid and process_identity) and identity(int(pid or 0)) == process_identity


@cache
def boot_id() -> str:
    """The machine's current boot; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def kill_tree(pid: int) -> None:
    """Kill a process and everything it started; nothing happens where it is gone already."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def die_with_parent(parent_pid: int, with_signal: int = signal.SIGTERM) -> None:
    """Ask Linux to send this process a signal when its parent dies; elsewhere nothing happens.

    Without it, closing a terminal or killing a command leaves its child behind. If the parent is gone already, the
    signal is sent at once.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
        if os.getppid() != parent_pid:
            os.kill(os.getpid(), with_signal)


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs one of the project's modules with this Python."""
    return [sys.executable, "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """This process's environment, with the project importable whatever the working directory is."""
    paths = [str(PROJECT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(p for p in paths if p))}


def start_detached(command: Sequence[str], log: Path) -> int:
    """Start a process in its own session, so that it outlives this one, its terminal and its signals; returns its pid.

    Standard output and error are appended to ``log``; there is no standard input.
    """
    reap()
    detached: dict[str, object] = {"start_new_session": True}
    if os.name == "nt":
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "DETACHED_PROCESS", 0)
        detached = {"creationflags": flags}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=module_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            **detached,  # type: ignore[call-overload]
        )  # fmt: skip
    _started.append(process)
    return int(process.pid)


def reap() -> None:
    """Collect detached children that have ended, so that they do not stay as zombies while this process lives."""
    _started[:] = [process for process in _started if process.poll() is None]


@contextmanager
def locked(path: Path, timeout_s: float = 5.0) -> Iterator[IO[str]]:
    """Hold the lock file ``path`` exclusively; the kernel frees it when the holder dies.

    Raises
    ------
    RunError
        If another process holds it for longer than ``timeout_s``, or it cannot be made (a read-only folder).
    """
    try:
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path.parent}: expected to be able to write there, got: {error.strerror or error}") from error
    with handle:
        deadline = time.monotonic() + timeout_s
        while not _try_lock(handle):
            if time.monotonic() >= deadline:
                raise RunError(f"{path}: another process has held this lock for {timeout_s:g} s; try again")
            time.sleep(0.02)
        yield handle


def _try_lock(handle: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _identity_elsewhere(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
