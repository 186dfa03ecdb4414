"""Queue supervisor of a checkpoints root: a detached process that starts the next queued run when a slot is free.

Each host that uses the root has its own, which leaves the runs of other hosts and engines alone. Its state is only in
the run folders, so another supervisor can take over at any instant, and its death does not affect runs. Runs started in
a terminal occupy slots too. It exits after some time without queued or active runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.config import TrainConfig
from core.errors import RunError
from core.files import may_be_present
from core.processes import module_command
from core.runs.catalog import update_index
from core.runs.engines.local import in_queue_here, supervisor_alive, supervisor_file, supervisor_lock
from core.runs.launch import WORKER
from core.runs.processes.sweep_driver import SweepDriver
from core.runs.store import folder as files
from core.runs.store.engine_records import read_engine
from core.runs.store.gpu_slots import GpuSlot, SlotPool, count_gpus, queue_order
from core.runs.store.process import is_alive, locked, process_identity, reap_detached, start_detached
from core.runs.store.reconciliation import reconciled_state, write_reconciled_state
from core.runs.store.run_origin import Origin, is_here
from core.runs.store.state import ENDED, RunState, read_state, write_state

POLL_S = 0.5
IDLE_S = 30.0
TAKE_OVER_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the run queue of a checkpoints ROOT until it is idle; exits at once if another supervisor does."""
    parser = argparse.ArgumentParser(prog="python -m core.runs.processes.queue_supervisor", description=main.__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--worker", default=WORKER, help="module of the trainer process")
    parser.add_argument("--gpus", type=int, default=None, help="number of GPUs to use (default: all that torch sees)")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds without runs before it exits")
    args = parser.parse_args(arguments)
    deadline = time.monotonic() + TAKE_OVER_S
    while time.monotonic() < deadline and not supervisor_alive(args.root):
        try:
            # Another supervisor that is about to exit may still hold the lock: retry.
            with locked(supervisor_lock(args.root), timeout_s=0.2):
                QueueSupervisor(args.root, args.worker, args.gpus).serve(args.idle)
                return 0
        except RunError:
            time.sleep(POLL_S / 5)
    return 0


@dataclass(frozen=True)
class _Launch:
    """A trainer parent process that has been started and has not claimed its run yet."""

    attempt: int
    pid: int
    identity: str
    gpus: tuple[int, ...]


class QueueSupervisor:
    """Polls the runs of a checkpoints root and starts queued ones.

    Parameters
    ----------
    root : Path. Checkpoints root.
    worker : str. Module of the trainer process.
    gpus : int or None. Number of GPUs to use; ``None``: all that torch sees.
    """

    def __init__(self, root: Path, worker: str = WORKER, gpus: int | None = None) -> None:
        self.root = root
        self.worker = worker
        self._gpus = gpus
        self._ended: dict[Path, int] = {}
        self._launches: dict[Path, _Launch] = {}
        self._configs: dict[Path, TrainConfig] = {}
        self._sweeps = SweepDriver(root, lambda: self.gpus, worker)

    @property
    def gpus(self) -> int:
        """Number of GPUs to use, counted when the first run is to start."""
        if self._gpus is None:
            self._gpus = count_gpus()
        return self._gpus

    def serve(self, idle_s: float) -> None:
        """Poll until idle. A run queued at the moment of exit is seen by this supervisor or by a new one."""
        record = supervisor_file(self.root)
        while may_be_present(self.root):
            identity = {"pid": os.getpid(), "identity": process_identity(os.getpid()), **asdict(Origin.here())}
            files.write_json(record, {**identity, "since": time.time()})
            last_work = time.monotonic()
            while time.monotonic() - last_work < idle_s and may_be_present(self.root):
                if self.poll():
                    last_work = time.monotonic()
                time.sleep(POLL_S)
            record.unlink(missing_ok=True)  # from here on, queueing a run starts a new supervisor
            if not self.poll():
                return

    def poll(self) -> bool:
        """Start the queued runs that get a slot, and take sweeps further; returns whether any run is queued or active,
        or a sweep is to propose trials."""
        reap_detached()
        active, queued = self._active_and_queued()
        sweeping = self._sweeps.poll({folder.name for folder in (*active, *queued)})
        self._check_launches(queued)
        waiting = {folder: state for folder, state in queued.items() if folder not in self._launches}
        if waiting:
            slots = SlotPool(self.gpus)
            for folder, state in active.items():
                slots.occupy(self._config(folder), state.gpus)
            for folder, launch in self._launches.items():
                slots.occupy(self._config(folder), launch.gpus)
            for run_id in queue_order((folder.name, state) for folder, state in waiting.items()):
                folder = self.root / run_id
                slot = slots.allocate(self._config(folder))
                if slot is not None:
                    self._launch(folder, waiting[folder], slot)
        return bool(active or queued or sweeping)

    def _launch(self, folder: Path, state: RunState, slot: GpuSlot) -> None:
        gpus = ["--gpus", *map(str, slot.gpus)] if slot.gpus else []
        command = module_command("core.runs.processes.trainer_parent", str(folder), "--worker", self.worker, *gpus)
        pid = start_detached(command, folder / files.LOG)
        self._launches[folder] = _Launch(state.attempt, pid, process_identity(pid), slot.gpus)

    def _config(self, folder: Path) -> TrainConfig:
        """A run's configuration, cached; where it is damaged the trainer reports it."""
        if folder not in self._configs:
            self._configs[folder] = files.read_config_or_default(folder)
        return self._configs[folder]

    def _active_and_queued(self) -> tuple[dict[Path, RunState], dict[Path, RunState]]:
        active: dict[Path, RunState] = {}
        queued: dict[Path, RunState] = {}
        for folder in files.run_folders(self.root):
            try:
                mtime_ns = (folder / files.STATE).stat().st_mtime_ns
            except OSError:  # it was deleted, or another host replaces it
                continue
            if self._ended.get(folder) == mtime_ns:
                continue
            state = reconciled_state(folder)
            if state.active and is_here(state.origin, state.shim_start):
                active[folder] = state
            elif in_queue_here(folder, state):
                queued[folder] = state
            elif state.state in ENDED:
                if state.origin.is_own:
                    self._write_final_state(folder)
                self._ended[folder] = mtime_ns
        return active, queued

    def _write_final_state(self, folder: Path) -> None:
        """Write the state of a run whose trainer and parent process both died without doing so."""
        try:
            if read_engine(folder) is None and read_state(folder).active:
                write_reconciled_state(folder)
                update_index(self.root, folder)
        except RunError as error:
            print(f"{folder.name}: {error}", flush=True)

    def _check_launches(self, queued: Mapping[Path, RunState]) -> None:
        """Remove launches that have claimed their runs. A run whose parent process died before is set to failed, so
        that it is not launched repeatedly."""
        for folder, launch in list(self._launches.items()):
            unclaimed = folder in queued and queued[folder].attempt == launch.attempt
            if unclaimed and is_alive(launch.pid, launch.identity):
                continue
            del self._launches[folder]
            if unclaimed:
                self._fail(folder)

    def _fail(self, folder: Path) -> None:
        with files.lock(folder):
            state = read_state(folder)
            if state.state == "queued":
                message = "it could not be started; see log.txt"
                write_state(folder, replace(state, state="failed", message=message, ended_at=time.time()))
        update_index(self.root, folder)


if __name__ == "__main__":
    sys.exit(main())
