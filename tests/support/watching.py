"""Waiting for runs as real processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import runs
from core.runs.launch import SUPERVISOR_FILE
from core.runs.store import folder as files
from core.runs.store.process import module_command, start_detached

TOY = "toy_worker"
TOYS = Path(__file__).parent / "toys"  # the folder of modules that stand in for the trainer and the command line
PATIENCE_S = 60


def wait_until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def state(root: Path, run_id: str) -> str:
    return runs.get_run(root, run_id).state.state


def wait_for(root: Path, run_id: str, *states: str) -> runs.RunState:
    wait_until(lambda: state(root, run_id) in states)
    return runs.get_run(root, run_id).state


def wait_for_epoch(root: Path, run_id: str) -> runs.RunState:
    wait_until(lambda: runs.get_run(root, run_id).state.epoch >= 1)
    return runs.get_run(root, run_id).state


def supervisor_pid(root: Path) -> int:
    wait_until(lambda: runs.supervisor_alive(root))
    return int(json.loads((root / SUPERVISOR_FILE).read_text())["pid"])


def start_shim(folder: Path) -> int:
    return start_detached(
        module_command("core.runs.processes.trainer_parent", str(folder), "--worker", TOY), folder / files.LOG
    )
