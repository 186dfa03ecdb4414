"""Runs as real processes: start them, find their processes, and wait for their states."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from core import runs
from core.processes import module_command
from core.runs.engines.local import supervisor_file
from core.runs.processes.queue_supervisor import QueueSupervisor
from core.runs.store import folder as files
from core.runs.store.process import process_identity, start_detached

TOY = "toy_worker"
TOYS = Path(__file__).parent / "toys"  # modules that stand in for the trainer and the command line
TIMEOUT_S = 120


def wait_until(condition: Callable[[], Any], timeout_s: float = TIMEOUT_S, poll_s: float = 0.02) -> Any:
    """Poll a condition until its value is true; returns the value."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(poll_s)
    raise AssertionError(f"condition not met within {timeout_s:g} s")


def state(root: Path, run_id: str) -> str:
    return runs.get_run(root, run_id).state.state


def wait_for(root: Path, run_id: str, *states: str, timeout_s: float = TIMEOUT_S) -> runs.RunState:
    """Wait until a run is in one of the states; another final state is an error that shows the log."""
    return _wait(root, run_id, lambda present: present.state in states, timeout_s)


def wait_for_step(root: Path, run_id: str, step: int) -> runs.RunState:
    """Wait until a run has taken this many steps."""
    return _wait(root, run_id, lambda present: present.state == "running" and present.step >= step)


def wait_for_epoch(root: Path, run_id: str) -> runs.RunState:
    """Wait until the first epoch of a run is over."""
    return _wait(root, run_id, lambda present: present.epoch >= 1)


def _wait(
    root: Path, run_id: str, condition: Callable[[runs.RunState], bool], timeout_s: float = TIMEOUT_S
) -> runs.RunState:
    def check() -> runs.RunState | None:
        present = runs.get_run(root, run_id).state
        if condition(present):
            return present
        if present.state in ("failed", "crashed", "finished"):
            raise AssertionError(f"it is {present.state}: {present.message}\n{runs.log_tail(root, run_id)}")
        return None

    final: runs.RunState = wait_until(check, timeout_s)
    return final


def supervisor_pid(root: Path) -> int:
    """Wait for a queue supervisor; returns its PID."""
    wait_until(lambda: runs.supervisor_alive(root))
    return int(json.loads(supervisor_file(root).read_text())["pid"])


def supervisor_in_this_process(root: Path, gpus: int = 0) -> QueueSupervisor:
    """A supervisor that polls when the test calls it; no other one is started during the test."""
    record = {"pid": os.getpid(), "identity": process_identity(os.getpid()), "since": time.time()}
    files.write_json(supervisor_file(root), record)
    return QueueSupervisor(root, TOY, gpus)


def start_trainer_parent(folder: Path) -> int:
    """Start the trainer parent of a queued run without a supervisor; returns its PID."""
    command = module_command("core.runs.processes.trainer_parent", str(folder), "--worker", TOY)
    return start_detached(command, folder / files.LOG)


def processes_of(folder: Path) -> list[psutil.Process]:
    """The processes that have a folder in their command line."""
    processes = psutil.process_iter(["cmdline"])
    return [p for p in processes if any(str(folder) in argument for argument in p.info["cmdline"] or [])]


def trainers(folder: Path, worker: str) -> list[psutil.Process]:
    """Trainer processes of a run on several devices, by rank; those that end during the search are left out."""
    ranks = []
    for process in processes_of(folder):
        if process.info["cmdline"][-2:] == [worker, str(folder)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                ranks.append((int(process.environ()["RANK"]), process))
    return [process for _, process in sorted(ranks, key=lambda item: item[0])]
