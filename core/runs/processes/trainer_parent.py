"""The process that starts a trainer, waits for it and writes ``exit.json``: only a parent learns how its child ended.

A queued run gets one of its own (``python -m core.runs.processes.trainer_parent FOLDER``, detached); in the foreground the command
``train`` is it. It needs next to nothing, so that it outlives what kills a trainer.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from core.compute.allocator import malloc_environment
from core.compute.cgroups import OomKills, count_oom_kills
from core.errors import RunError
from core.runs.catalog import put_in_index
from core.runs.launch import WORKER, wake
from core.runs.processes.exit_reason import peak_memory_bytes, reason, signal_name
from core.runs.store import folder as files
from core.runs.store.gpu_slots import Place
from core.runs.store.process import identity, kill_tree, module_command, module_environment
from core.runs.store.state import RunState, read_state, settle, write_state

POLL_S = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the queued run in FOLDER, wait for it, and leave; exit status 0 unless the run was not startable."""
    parser = argparse.ArgumentParser(prog="python -m core.runs.processes.trainer_parent", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worker", default=WORKER, help="the module that trains")
    parser.add_argument("--gpus", type=int, nargs="*", default=[], help="numbers of the GPUs to train on")
    args = parser.parse_args(arguments)
    try:
        start(args.folder, tuple(args.gpus))
    except RunError as error:
        files.append_log(args.folder, f"not started: {error}")
        return 1
    watch(args.folder, worker=args.worker)
    return 0


def start(folder: Path, gpus: tuple[int, ...] = ()) -> RunState:
    """Take a queued run, and the GPUs that it was given: from here on this process answers for it.

    Raises
    ------
    RunError
        If the run is not queued (somebody else took it, or it was stopped).
    """
    with files.lock(folder):
        state = read_state(folder)
        if state.state != "queued":
            raise RunError(f"{folder.name}: expected a queued run, it is {state.state}")
        for name in (files.STOP, files.EXIT):
            (folder / name).unlink(missing_ok=True)
        pid = os.getpid()
        state = replace(
            state, state="starting", what="starting", message="", attempt=state.attempt + 1, pid=None, pid_start="",
            shim_pid=pid, shim_start=identity(pid), gpus=gpus, started_at=time.time(), ended_at=None,
        )  # fmt: skip
        return write_state(folder, state)


def watch(folder: Path, worker: str = WORKER, attached: bool = False) -> RunState:
    """Run the trainer of a starting run to its end and return the state that the run ended in.

    Ctrl-C and termination ask the run to stop; once more ends it at once. ``attached``: the trainer draws its progress
    on this process's standard error and stops when this process dies; otherwise it writes to ``log.txt``.
    """
    root, state, before = folder.parent, read_state(folder), count_oom_kills()
    asked: list[int] = []
    attachment = ["--attached", str(os.getpid())] if attached else []
    command = module_command(worker, str(folder), *attachment)
    devices = _devices(folder)
    if devices > 1:
        crew = ["--devices", str(devices), "--worker", worker, *attachment]
        command = module_command("core.runs.processes.torchrun_launcher", str(folder), *crew)
    old = _handle_signals(lambda number, _: asked.append(number))
    try:
        with (folder / files.LOG).open("ab") as log:
            output = sys.stderr.fileno() if attached else log.fileno()
            # Ignored while starting, the trainer inherits it: Ctrl-C before its own handler is up is no traceback.
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            trainer = subprocess.Popen(
                command, env=Place(state.gpus).environment(malloc_environment(module_environment())),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=devices > 1,  # Ctrl-C asks the crew through the run's folder, not its launcher
            )  # fmt: skip
            signal.signal(signal.SIGINT, handler)
        _wait(trainer, folder, asked)
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
    _write_exit(folder, state.attempt, trainer.pid, trainer.returncode, before)
    state = settle(folder)
    put_in_index(root, folder)
    wake(root, worker)
    return state


def _devices(folder: Path) -> int:
    """How many devices the run is for; the trainer says what is wrong with a configuration that cannot be read."""
    try:
        return files.read_config(folder).run.devices
    except RunError:
        return 1


def _wait(trainer: subprocess.Popen[bytes], folder: Path, asked: list[int]) -> None:
    requests = 0
    while True:
        try:
            trainer.wait(timeout=POLL_S)
            return
        except subprocess.TimeoutExpired:
            pass
        if len(asked) > requests:
            requests = len(asked)
            (folder / files.STOP).write_text("" if requests == 1 else "now", encoding="utf-8")
            if requests > 1:
                kill_tree(trainer.pid)


def _write_exit(folder: Path, attempt: int, pid: int, returncode: int, before: OomKills) -> None:
    try:
        now_asked = (folder / files.STOP).read_text(encoding="utf-8") == "now"
    except FileNotFoundError:
        now_asked = False
    name, peak = signal_name(returncode), peak_memory_bytes()
    silent = read_state(folder).active  # it did not say itself how it ended
    ended = {
        "attempt": attempt, "pid": pid, "returncode": returncode, "signal": name,
        "killed_on_request": now_asked and name == "SIGKILL",
        "reason": reason(returncode, before, count_oom_kills(), peak) if silent else "",
        "peak_memory_bytes": peak, "ended_at": time.time(),
    }  # fmt: skip
    files.write_json(folder / files.EXIT, ended, durable=True)


def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install a handler for what asks a process to end; returns what was there before."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return {number: signal.signal(number, handler) for number in numbers}


if __name__ == "__main__":
    sys.exit(main())
