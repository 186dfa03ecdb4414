"""Follows a run that an engine trains elsewhere: prints its log on standard error until it has ended."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from core.runs import RunState, engine_poller, get_run, request_stop
from core.runs.store import folder as files
from core.runs.store.state import ENDED

EVERY_S = 1.0


def follow(root: Path, run_id: str) -> RunState:
    """Wait for the end of a run; returns its state. Ctrl-C requests it to stop, a second one leaves it to itself.

    Parameters
    ----------
    root : Path. Checkpoints root.
    run_id : str. The run.
    """
    printed, said, stopping = 0, "", False
    while True:
        try:
            engine_poller.ask_all(root, wait_s=EVERY_S)
            state = get_run(root, run_id).state
            printed = _print_log(root / run_id / files.LOG, printed)
            waiting = f"{state.state}: {state.message or state.what}" if not printed else ""
            if waiting and waiting != said:
                print(waiting, file=sys.stderr)
                said = waiting
            if state.state in ENDED:
                return state
            time.sleep(EVERY_S)
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            print("it saves a checkpoint and stops; a second Ctrl-C leaves it to itself", file=sys.stderr)
            request_stop(root, run_id)


def _print_log(path: Path, printed: int) -> int:
    """Print what a log has gained; returns the number of bytes that are printed."""
    try:
        with path.open("rb") as file:
            file.seek(printed)
            new = file.read()
    except OSError:
        return printed
    complete = new[: new.rfind(b"\n") + 1]
    print(complete.decode("utf-8", errors="replace"), end="", file=sys.stderr, flush=True)
    return printed + len(complete)
