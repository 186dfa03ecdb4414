"""Runs as real processes with the toy trainer: start them, and wait for their states."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import runs
from core.runs.launch import SUPERVISOR_FILE
from core.runs.processes.queue_supervisor import QueueSupervisor
from core.runs.store import folder as files
from core.runs.store.process import module_command, process_identity, start_detached

TOY = "toy_worker"
TOYS = Path(__file__).parent / "toys"  # modules that stand in for the trainer and the command line
TIMEOUT_S = 60


def wait_until(condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Poll a condition until its value is true; returns the value."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"condition not met within {timeout_s:g} s")


def state(root: Path, run_id: str) -> str:
    return runs.get_run(root, run_id).state.state


def wait_for(root: Path, run_id: str, *states: str) -> runs.RunState:
    """Wait until a run is in one of the states."""
    wait_until(lambda: state(root, run_id) in states)
    return runs.get_run(root, run_id).state


def wait_for_epoch(root: Path, run_id: str) -> runs.RunState:
    """Wait until the first epoch of a run is over."""
    wait_until(lambda: runs.get_run(root, run_id).state.epoch >= 1)
    return runs.get_run(root, run_id).state


def supervisor_pid(root: Path) -> int:
    """Wait for a queue supervisor; returns its PID."""
    wait_until(lambda: runs.supervisor_alive(root))
    return int(json.loads((root / SUPERVISOR_FILE).read_text())["pid"])


def supervisor_in_this_process(root: Path, gpus: int = 0) -> QueueSupervisor:
    """A supervisor that polls when the test calls it; no other one is started meanwhile."""
    record = {"pid": os.getpid(), "identity": process_identity(os.getpid()), "since": time.time()}
    files.write_json(root / SUPERVISOR_FILE, record)
    return QueueSupervisor(root, TOY, gpus)


def start_trainer_parent(folder: Path) -> int:
    """Start the trainer parent of a queued run without a supervisor; returns its PID."""
    command = module_command("core.runs.processes.trainer_parent", str(folder), "--worker", TOY)
    return start_detached(command, folder / files.LOG)
