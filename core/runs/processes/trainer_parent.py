"""Parent process of a trainer: starts it, waits for it and writes its exit status to ``exit.json``.

The parent of a queued run is a detached process (``python -m core.runs.processes.trainer_parent FOLDER``); a run in the
foreground has the command ``train`` as its parent; on a cluster it is the process of the job. It writes the heartbeat
of the run. It uses little memory, so the OOM killer picks the trainer first.
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
from core.compute.priority import JOB_NICENESS, TRAINER_NICENESS, lower_priority
from core.errors import RunError
from core.hosts import host_name
from core.processes import kill_tree, module_command, module_environment
from core.runs.catalog import get_run, update_index
from core.runs.launch import WORKER, serve_queue
from core.runs.notify import notify
from core.runs.processes.engine_job import EngineJob, engine_job
from core.runs.processes.exit_reason import describe_exit, peak_memory_bytes, signal_name
from core.runs.store import folder as files
from core.runs.store.engine_records import read_engine, write_engine
from core.runs.store.gpu_slots import GpuSlot
from core.runs.store.heartbeat import HEARTBEAT, Heartbeat
from core.runs.store.process import process_identity
from core.runs.store.reconciliation import write_reconciled_state
from core.runs.store.state import RESUMABLE, RunState, read_state, write_state
from core.runs.store.stop_file import AT_ONCE, PRUNED, SIGNALLED, STOP, read_stop, write_stop

CLAIM_WAIT_S = 60.0  # a job waits so long for the lock of its run: an engine starts it once
POLL_S = 0.1
STOP_POLLS = 10  # polls between looks at whether another host asks to end at once
ENDING_SIGNALS = ("SIGKILL", "SIGTERM")  # by which a scheduler ends a job
TOO_LATE = "it was killed before it could save; progress that no checkpoint holds is lost"
STATE_POLLS = 10  # polls between looks at the state of a run that is being prepared


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trainer of the queued run in FOLDER to its end. Exit status: 0 finished, or stopped on request; 1 failed
    or crashed, or the run was not queued."""
    parser = argparse.ArgumentParser(prog="python -m core.runs.processes.trainer_parent", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worker", default=WORKER, help="module of the trainer process")
    parser.add_argument("--gpus", type=int, nargs="*", default=[], help="indices of the GPUs to train on")
    args = parser.parse_args(arguments)
    try:
        claim_run(args.folder, tuple(args.gpus))
    except RunError as error:
        files.append_log(args.folder, f"not started: {error}")
        return 1
    return 0 if run_trainer(args.folder, worker=args.worker).state in ("finished", "stopped") else 1


def claim_run(folder: Path, gpus: tuple[int, ...] = ()) -> RunState:
    """Set a queued run to "starting", with this process as the parent of its trainer. A job that its engine restarted
    takes over the run that it trained before.

    Parameters
    ----------
    folder : Path. The run folder.
    gpus : tuple of int. Indices of the GPUs assigned to it.

    Raises
    ------
    RunError
        If the run is not queued (another process claimed it, or it was stopped), or another job is to train it.
    """
    job = engine_job()
    with files.lock(folder, CLAIM_WAIT_S):
        state, record = read_state(folder), read_engine(folder)
        if job.id and (record is None or not job.is_of(record)):  # one that was given up, but not cancelled
            other = "the queue of its host" if record is None else f"job {record.job or record.name or 'yet to come'}"
            submission = ", of another submission" if record is not None and job.name not in ("", record.name) else ""
            raise RunError(f"{folder.name}: expected {other} to train it, this is job {job.id}{submission}")
        if record is not None and not job.id:  # the queue of an earlier version, which knows no engines
            raise RunError(
                f"{folder.name}: expected a job of engine {record.engine} to train it, this process is of none"
            )
        if state.state != "queued" and not (job.restart and _was_interrupted(folder, state)):
            raise RunError(f"{folder.name}: expected a queued run, it is {state.state}")
        if record is not None and not record.job:
            write_engine(folder, replace(record, job=job.id, problem=""))
        for name in (STOP, PRUNED, files.EXIT, HEARTBEAT):
            (folder / name).unlink(missing_ok=True)
        pid = os.getpid()
        state = replace(
            state,
            state="starting",
            what="starting",
            message="",
            attempt=state.attempt + 1,
            pid=None,
            pid_start="",
            shim_pid=pid,
            shim_start=process_identity(pid),
            gpus=gpus,
            started_at=time.time(),
            ended_at=None,
            done=0,
            total=0,
            remaining_s=None,  # those of an attempt that a power cut ended
            sub_volumes_per_s=None,
        )
        return write_state(folder, state.moved_here())


def _was_interrupted(folder: Path, state: RunState) -> bool:
    """Whether a run ended because its job was interrupted: it may go on when the job is restarted. A run that a person
    asked to stop in between is set to stopped."""
    if read_stop(folder) not in (None, SIGNALLED):
        if state.active:
            message = "stopped while its job waited to be restarted"
            write_state(folder, state.ended("stopped", message))
        return False
    try:
        signalled = bool(files.read_json(folder / files.EXIT).get("signalled"))
    except RunError:
        signalled = False
    return state.active or (signalled and state.state in RESUMABLE)


def run_trainer(folder: Path, worker: str = WORKER, attached: bool = False) -> RunState:
    """Run the trainer of a starting run to its end. SIGINT, SIGTERM and SIGHUP request a stop. A second SIGINT, which a
    person sends by Ctrl-C, kills the trainer; schedulers repeat their signals while a run saves, which changes nothing.

    Parameters
    ----------
    folder : Path. The run folder.
    worker : str. Module of the trainer process.
    attached : bool. Whether the trainer shows its progress on this process's standard error and stops when this process
        dies; otherwise it writes to ``log.txt``.

    Returns
    -------
    RunState
        Final state of the run.
    """
    root, state, oom_kills = folder.parent, read_state(folder), count_oom_kills()
    signals: list[int] = []
    job = engine_job()
    attachment = ["--attached", str(os.getpid())] if attached else []
    command = module_command(worker, str(folder), *attachment)
    devices = files.read_config_or_default(folder).run.devices
    if devices > 1:
        options = ["--devices", str(devices), "--worker", worker, *attachment]
        command = [*job.nodes, *module_command("core.runs.processes.torchrun_launcher", str(folder), *options)]
    handlers = _handle_signals(lambda number, _: signals.append(number))
    try:
        with Heartbeat(folder, job.id, job.restart), (folder / files.LOG).open("ab") as log:
            output = sys.stderr.fileno() if attached else log.fileno()
            # The trainer inherits the ignored signal, so Ctrl-C before it installs its handler causes no traceback.
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            trainer = subprocess.Popen(
                command,
                env=GpuSlot(state.gpus).environment(malloc_environment(module_environment())),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=devices
                > 1,  # the terminal sends Ctrl-C to this process only, which writes the stop file
            )
            signal.signal(signal.SIGINT, handler)
            if not attached:  # a foreground run keeps its priority
                # A user waits for the first step, as for a job.
                lower_priority(trainer.pid, JOB_NICENESS, whole_session=True)
            niceness = 0 if attached else TRAINER_NICENESS - JOB_NICENESS
            superseded = _wait(trainer, folder, signals, niceness, job)
    finally:
        for number, previous in handlers.items():
            signal.signal(number, previous)
    if superseded:
        files.append_log(folder, f"{host_name()}: the run was given up here and started again: the trainer was ended")
        return read_state(folder)
    _write_exit(folder, state.attempt, trainer, oom_kills, job)
    state = write_reconciled_state(folder)
    if state.state == "stopped" and read_stop(folder) == SIGNALLED:
        state = write_state(folder, replace(state, message=job.why_signalled()), durable=True)
    update_index(root, folder)
    if not job.id:  # the environment of a job is not that of the queue
        serve_queue(root, worker)
    for note in notify(get_run(root, folder.name)):
        files.append_log(folder, note)
    return state


def _is_superseded(folder: Path, attempt: int) -> bool:
    """Whether the run was given up while this machine was suspended, and started again elsewhere."""
    try:
        return read_state(folder).attempt > attempt
    except RunError:
        return False


def _wait(trainer: subprocess.Popen[bytes], folder: Path, signals: list[int], niceness: int, job: EngineJob) -> bool:
    """Wait for the trainer, pass on signals as stop requests, kill it where another host asks to end at once or its job
    is out of time, and lower its priority by ``niceness`` once it trains; returns whether it was killed because the run
    was started again elsewhere."""
    attempt, requests, superseded = read_state(folder).attempt, 0, False
    polls = 0
    while True:
        polls += 1
        if niceness and polls % STATE_POLLS == 0 and read_state(folder).state != "starting":
            lower_priority(trainer.pid, niceness, whole_session=True)
            niceness = 0
        try:
            trainer.wait(timeout=POLL_S)
            if signals and job.id and read_stop(folder) is None:
                write_stop(folder, SIGNALLED)  # the engine signals the trainer too, which may end within a poll
            return superseded
        except subprocess.TimeoutExpired:
            pass
        if len(signals) > requests:
            requests = len(signals)
            if not job.id and signals.count(signal.SIGINT) > 1:
                write_stop(folder, AT_ONCE)
                kill_tree(trainer.pid)
            elif read_stop(folder) is None:
                write_stop(folder, SIGNALLED if job.id else "")
        if job.is_over:
            if read_stop(folder) is None:
                write_stop(folder, SIGNALLED)
            kill_tree(trainer.pid)
        if polls % STOP_POLLS == 0:
            superseded = superseded or _is_superseded(folder, attempt)
            if superseded or read_stop(folder) == AT_ONCE:
                kill_tree(trainer.pid)


def _write_exit(
    folder: Path, attempt: int, trainer: subprocess.Popen[bytes], oom_kills_before: OomKills, job: EngineJob
) -> None:
    stop = read_stop(folder)
    name, peak = signal_name(trainer.returncode), peak_memory_bytes()
    reason = ""
    if read_state(folder).active:  # the trainer did not write how it ended
        reason = describe_exit(trainer.returncode, oom_kills_before, count_oom_kills(), peak)
        if name in ENDING_SIGNALS and (stop == SIGNALLED or job.is_over):
            reason = f"{job.why_signalled()}; {TOO_LATE}"
    record = {
        "attempt": attempt,
        "pid": trainer.pid,
        "returncode": trainer.returncode,
        "signal": name,
        "killed_on_request": stop == AT_ONCE and name == "SIGKILL",
        "signalled": stop == SIGNALLED,
        "reason": reason,
        "peak_memory_bytes": peak,
        "ended_at": time.time(),
    }
    files.write_json(folder / files.EXIT, record, durable=True)


def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install a handler for the signals that end a process; returns the previous handlers."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return {number: signal.signal(number, handler) for number in numbers}


if __name__ == "__main__":
    sys.exit(main())
