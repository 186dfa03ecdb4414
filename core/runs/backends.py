"""Who trains runs: this machine, through its queue; a cluster's scheduler could be another.

Pages and commands ask an engine for four things and leave the rest to the run folder, which looks the same wherever a
run was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.config import TrainConfig
from core.runs import catalog, launch
from core.runs.store.state import RunState


class Engine(Protocol):
    """What trains the runs of a checkpoints root. A method raises ``UserError`` where it cannot do what is asked."""

    def submit(self, config: TrainConfig, name: str = "") -> str:
        """Have a run trained when its turn comes; returns its id at once."""

    def status(self, run_id: str) -> RunState:
        """Where a run truly is, whatever became of the processes that should have said so."""

    def logs(self, run_id: str, lines: int) -> str:
        """The last lines of what a run and its processes said."""

    def stop(self, run_id: str, now: bool = False) -> RunState:
        """Ask a run to save a checkpoint and end, or end it at once; asking again changes nothing."""


@dataclass(frozen=True)
class ThisMachine:
    """A detached process keeps the queue of the root and gives each run a GPU, or the CPU. ``worker``: what trains."""

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


def engine(root: Path) -> Engine:
    """The engine of a checkpoints root."""
    return ThisMachine(root)
