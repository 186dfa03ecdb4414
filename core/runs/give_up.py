"""Ends a run whose machine no longer exists, so that it can be resumed or deleted."""

from __future__ import annotations

import time
from pathlib import Path

from core.errors import RunError
from core.runs.catalog import update_index
from core.runs.store import folder as files
from core.runs.store import heartbeat, stop_file
from core.runs.store.heartbeat import read_beat
from core.runs.store.reconciliation import reconciled_state, write_reconciled_state
from core.runs.store.state import ENDED, read_state, write_state

POLL_S = 0.5


def give_up(root: Path, run_id: str) -> None:
    """Set an unreachable run to crashed, after its heartbeat has not changed for a minute.

    Raises
    ------
    RunError
        If there is no such run, it is not unreachable, or its heartbeat changes.
    """
    folder = files.run_folder(root, run_id)
    state, before = reconciled_state(folder), read_beat(folder)
    if state.state != "unreachable":
        raise RunError(f"{run_id}: expected an unreachable run, it is {state.state}")
    deadline = time.monotonic() + heartbeat.OLD_S
    while time.monotonic() < deadline:
        judged = reconciled_state(folder).state
        if judged in ENDED:
            break  # its engine reports that, and it was watched for long enough
        if read_beat(folder) != before or judged != "unreachable":
            raise RunError(f"{run_id}: it is not lost: its heartbeat has just changed")
        time.sleep(POLL_S)
    if write_reconciled_state(folder).state in ENDED:
        update_index(root, folder)
        return
    with files.lock(folder):
        state = read_state(folder)
        if state.active:
            message = f"given up: nothing was heard from {state.host or 'its machine'} any more"
            stop_file.write_stop(folder, stop_file.AT_ONCE)  # in case the machine returns
            write_state(folder, state.ended("crashed", message))
    update_index(root, folder)
