"""The keeper of a root's queue: a detached process that starts the next queued run whenever its place is free.

It keeps nothing in memory that matters. What is queued and what is active it reads from the folders, so another keeper
can take over at any instant, and runs do not notice when it dies. Runs started in a terminal count as active too. It
leaves when nothing has been queued or active for a while.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.config import TrainConfig
from core.errors import RunError
from core.runs.catalog import put_in_index
from core.runs.launch import SUPERVISOR_FILE, WORKER, supervisor_alive
from core.runs.store import folder as files
from core.runs.store.gpu_slots import Place, Slots, count_gpus, in_order
from core.runs.store.process import alive, identity, locked, module_command, reap, start_detached
from core.runs.store.state import ENDED, RunState, observe, read_state, settle, write_state

LOCK = ".supervisor.lock"
POLL_S = 0.5
IDLE_S = 30.0
TAKE_OVER_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep the queue of a checkpoints ROOT until there is nothing left to do; leaves at once if somebody keeps it."""
    parser = argparse.ArgumentParser(prog="python -m core.runs.processes.queue_supervisor", description=main.__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--worker", default=WORKER, help="the module that trains")
    parser.add_argument("--gpus", type=int, default=None, help="GPUs that runs may use (default: all that torch sees)")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds without work before it leaves")
    args = parser.parse_args(arguments)
    deadline = time.monotonic() + TAKE_OVER_S
    while time.monotonic() < deadline and not supervisor_alive(args.root):
        try:
            # Another keeper may hold the lock for the moment in which it decides to leave: wait for it.
            with locked(args.root / LOCK, timeout_s=0.2):
                Keeper(args.root, args.worker, args.gpus).keep(args.idle)
                return 0
        except RunError:
            time.sleep(POLL_S / 5)
    return 0


@dataclass(frozen=True)
class _Launched:
    """A shim on its way to its run."""

    attempt: int
    pid: int
    identity: str
    gpus: tuple[int, ...]


class Keeper:
    """Looks at the runs of a root, again and again, and starts the next one when there is a place for it.

    Parameters
    ----------
    root : of the runs.
    worker : the module that trains.
    gpus : that runs may use; asked of torch if ``None``.
    """

    def __init__(self, root: Path, worker: str = WORKER, gpus: int | None = None) -> None:
        self.root = root
        self.worker = worker
        self._gpus = gpus
        self._ended: dict[Path, int] = {}
        self._launched: dict[Path, _Launched] = {}
        self._configs: dict[Path, TrainConfig] = {}

    @property
    def gpus(self) -> int:
        """How many GPUs runs may use; asked once, when the first run is to start."""
        if self._gpus is None:
            self._gpus = count_gpus()
        return self._gpus

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
        """Look once, start what has a place; returns whether there is anything to wait for."""
        reap()
        active, queued = self._survey()
        self._look_after_launched(queued)
        waiting = {folder: state for folder, state in queued.items() if folder not in self._launched}
        if waiting:
            slots = Slots(self.gpus)
            for folder, state in active.items():
                slots.take(self._config(folder), state.gpus)
            for folder, launched in self._launched.items():
                slots.take(self._config(folder), launched.gpus)
            for name in in_order((folder.name, state) for folder, state in waiting.items()):
                folder = self.root / name
                place = slots.give(self._config(folder))
                if place is not None:
                    self._launch(folder, waiting[folder], place)
        return bool(active or queued)

    def _launch(self, folder: Path, state: RunState, place: Place) -> None:
        given = ["--gpus", *map(str, place.gpus)] if place.gpus else []
        command = module_command("core.runs.processes.trainer_parent", str(folder), "--worker", self.worker, *given)
        pid = start_detached(command, folder / files.LOG)
        self._launched[folder] = _Launched(state.attempt, pid, identity(pid), place.gpus)

    def _config(self, folder: Path) -> TrainConfig:
        """A run's configuration, read once; where it cannot be read the trainer will say so."""
        if folder not in self._configs:
            try:
                self._configs[folder] = files.read_config(folder)
            except RunError:
                self._configs[folder] = TrainConfig()
        return self._configs[folder]

    def _survey(self) -> tuple[dict[Path, RunState], dict[Path, RunState]]:
        """The runs that train, and those that wait."""
        active: dict[Path, RunState] = {}
        queued: dict[Path, RunState] = {}
        for folder in files.run_folders(self.root):
            try:
                changed = (folder / files.STATE).stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if self._ended.get(folder) == changed:
                continue
            state = observe(folder)
            if state.active:
                active[folder] = state
            elif state.state == "queued":
                queued[folder] = state
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

    def _look_after_launched(self, queued: Mapping[Path, RunState]) -> None:
        """Forget the shims that have taken their runs. One that died before must not be started for ever."""
        for folder, launched in list(self._launched.items()):
            waits = folder in queued and queued[folder].attempt == launched.attempt
            if waits and alive(launched.pid, launched.identity):
                continue
            del self._launched[folder]
            if waits:
                self._give_up(folder)

    def _give_up(self, folder: Path) -> None:
        with files.lock(folder):
            state = read_state(folder)
            if state.state == "queued":
                message = "it could not be started; see log.txt"
                write_state(folder, replace(state, state="failed", message=message, ended_at=time.time()))
        put_in_index(self.root, folder)


if __name__ == "__main__":
    sys.exit(main())
