"""Interface of a training backend, and the queue of this machine as its implementation.

Pages and commands use the four methods of a backend and read everything else from the run folder, which is the same
for every backend. A cluster scheduler could be another backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.config import TrainConfig
from core.runs import catalog, launch
from core.runs.store.state import RunState


class Backend(Protocol):
    """Trains the runs of a checkpoints root. Methods raise ``UserError`` if a request cannot be carried out."""

    def submit(self, config: TrainConfig, name: str = "") -> str:
        """Queue a new run; returns its id at once."""

    def status(self, run_id: str) -> RunState:
        """The state of a run, reconciled with its processes."""

    def logs(self, run_id: str, lines: int) -> str:
        """The last lines of the log of a run."""

    def stop(self, run_id: str, now: bool = False) -> RunState:
        """Request that a run saves a checkpoint and ends, or kill it ``now``; repeated requests have no effect."""


@dataclass(frozen=True)
class LocalBackend:
    """The queue of a checkpoints root on this machine: a detached supervisor gives each run GPUs or the CPU.

    Attributes
    ----------
    root : Path. Checkpoints root.
    worker : str. Module of the trainer process.
    """

    root: Path
    worker: str = launch.WORKER

    def submit(self, config: TrainConfig, name: str = "") -> str:
        return launch.submit(self.root, config, name, self.worker)

    def status(self, run_id: str) -> RunState:
        return catalog.get_run(self.root, run_id).state

    def logs(self, run_id: str, lines: int) -> str:
        return catalog.log_tail(self.root, run_id, lines)

    def stop(self, run_id: str, now: bool = False) -> RunState:
        return catalog.request_stop(self.root, run_id, now)


def get_backend(root: Path) -> Backend:
    """The backend of a checkpoints root."""
    return LocalBackend(root)
