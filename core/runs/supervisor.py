"""The keeper of a root's queue: a detached process that starts the oldest queued run whenever no run is active.

It keeps nothing in memory that matters. What is queued and what is active it reads from the folders, so another keeper
can take over at any instant, and runs do not notice when it dies. Runs started in a terminal count as active too. It
leaves when nothing has been queued or active for a while.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core.errors import RunError
from core.runs import folder as files
from core.runs.catalog import put_in_index
from core.runs.launch import SUPERVISOR_FILE, WORKER, supervisor_alive
from core.runs.process import alive, identity, locked, module_command, reap, start_detached
from core.runs.state import ENDED, RunState, observe, read_state, settle, write_state

LOCK = ".supervisor.lock"
POLL_S = 0.5
IDLE_S = 30.0
TAKE_OVER_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep the queue of a checkpoints ROOT until there is nothing left to do; leaves at once if somebody keeps it."""
    parser = argparse.ArgumentParser(prog="python -m core.runs.supervisor", description=main.__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--worker", default=WORKER, help="the module that trains")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds without work before it leaves")
    args = parser.parse_args(arguments)
    deadline = time.monotonic() + TAKE_OVER_S
    while time.monotonic() < deadline and not supervisor_alive(args.root):
        try:
            # Another keeper may hold the lock for the moment in which it decides to leave: wait for it.
            with locked(args.root / LOCK, timeout_s=0.2):
                Keeper(args.root, args.worker).keep(args.idle)
                return 0
        except RunError:
            time.sleep(POLL_S / 5)
    return 0


class Keeper:
    """Looks at the runs of a root, again and again, and starts the next one when the one slot is free."""

    def __init__(self, root: Path, worker: str = WORKER) -> None:
        self.root = root
        self.worker = worker
        self._ended: dict[Path, int] = {}
        self._launched: tuple[Path, int, int, str] | None = None

    def keep(self, idle_s: float) -> None:
        """Work until idle. A run queued while this process decides to leave is seen by it, or by its successor."""
        note = self.root / SUPERVISOR_FILE
        while self.root.is_dir():
            files.write_json(note, {"pid": os.getpid(), "identity": identity(os.getpid()), "since": time.time()})
            last_work = time.monotonic()
            while time.monotonic() - last_work < idle_s and self.root.is_dir():
                if self.turn():
                    last_work = time.monotonic()
                time.sleep(POLL_S)
            note.unlink(missing_ok=True)  # from here on who queues a run starts a new keeper
            if not self.turn():
                return

    def turn(self) -> bool:
        """Look once, start at most one run; returns whether there is anything to wait for."""
        reap()
        active, queued = self._survey()
        if self._starting(queued):
            return True
        if queued and not active:
            oldest, state = min(queued, key=lambda item: (item[1].queued_at, item[0].name))
            command = module_command("core.runs.shim", str(oldest), "--worker", self.worker)
            pid = start_detached(command, oldest / files.LOG)
            self._launched = (oldest, state.attempt, pid, identity(pid))
        return bool(active or queued)

    def _survey(self) -> tuple[list[Path], list[tuple[Path, RunState]]]:
        active, queued = [], []
        for folder in files.run_folders(self.root):
            try:
                changed = (folder / files.STATE).stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if self._ended.get(folder) == changed:
                continue
            state = observe(folder)
            if state.active:
                active.append(folder)
            elif state.state == "queued":
                queued.append((folder, state))
            elif state.state in ENDED:
                self._write_down(folder)
                self._ended[folder] = changed
        return active, queued

    def _write_down(self, folder: Path) -> None:
        """A run whose trainer and shim both died still says it is running: write down what is true."""
        try:
            if read_state(folder).active:
                settle(folder)
                put_in_index(self.root, folder)
        except RunError as error:
            print(f"{folder.name}: {error}", flush=True)

    def _starting(self, queued: list[tuple[Path, RunState]]) -> bool:
        """Whether a shim is on its way to its run. One that died before taking it must not be started for ever."""
        if self._launched is None:
            return False
        folder, attempt, pid, process_identity = self._launched
        if all((folder, attempt) != (waiting, state.attempt) for waiting, state in queued):
            self._launched = None
            return False
        if alive(pid, process_identity):
            return True
        self._launched = None
        with files.lock(folder):
            state = read_state(folder)
            if state.state == "queued":
                message = "it could not be started; see log.txt"
                write_state(folder, replace(state, state="failed", message=message, ended_at=time.time()))
        put_in_index(self.root, folder)
        return True


if __name__ == "__main__":
    sys.exit(main())
