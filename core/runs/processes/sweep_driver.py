"""Advances the sweeps of a checkpoints root while the queue is served: proposes trials, prunes running ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from core.config import TrainConfig
from core.runs.engine_poller import ensure_pollers
from core.runs.group_summary import settings_of
from core.runs.launch import WORKER
from core.runs.store.groups import Group, read_own_sweeps, read_sweeps
from core.runs.sweeps import advance

EVERY_S = 2.0  # shortest time between two looks at the sweeps
ANSWER_S = 1.0  # the queue waits so long for an engine that gets the trials of a sweep
SLOW_ENGINES = 8  # sweeps whose engines may be waited for at the same time


class SweepDriver:
    """Advances every sweep of this host that has not ended.

    Parameters
    ----------
    root : Path. Checkpoints root.
    gpus : callable. Number of GPUs to use; called when there is a sweep.
    worker : str. Module of the trainer process on other engines.
    """

    def __init__(self, root: Path, gpus: Callable[[], int], worker: str = WORKER) -> None:
        self.root, self.worker = root, worker
        self._gpus = gpus
        self._ended: dict[str, Group] = {}  # sweeps as they were when they ended
        self._threads = ThreadPoolExecutor(SLOW_ENGINES, "sweep")
        self._waiting: dict[str, Future[bool]] = {}  # sweeps whose engine has not answered yet
        self._polled_at = -EVERY_S
        self._going_on = False

    def poll(self, busy: Collection[str]) -> bool:
        """Advance the sweeps, at most once per ``EVERY_S``; returns whether any is in progress.

        Parameters
        ----------
        busy : collection of str. Ids of the runs that are queued or active.
        """
        if time.monotonic() - self._polled_at >= EVERY_S:
            left = [
                group
                for group in read_own_sweeps(self.root)
                if self._ended.get(group.id) != group or not {*busy}.isdisjoint(group.runs)
            ]
            self._going_on = [group.id for group in left if self._advance(group)] != []
            self._polled_at = time.monotonic()
        return self._going_on

    def _advance(self, group: Group) -> bool:
        settings = settings_of(group)
        if settings.engine:
            going_on = self._advance_on_engine(group, settings.at_once(1))
        else:
            devices = trials_at_once(group.config, self._gpus())
            going_on = advance(self.root, group.id, settings.at_once(devices), self.worker)
        if going_on and settings.engine:
            ensure_pollers(self.root)  # a trial whose job has died has ended
        if going_on:
            self._ended.pop(group.id, None)
        else:
            self._ended[group.id] = next((now for now in read_sweeps(self.root) if now.id == group.id), group)
        return going_on

    def _advance_on_engine(self, group: Group, at_once: int) -> bool:
        """Advance a sweep in a thread: runs of this machine do not wait for an engine that is slow to answer."""
        waiting = self._waiting.pop(group.id, None)
        if waiting is None:
            waiting = self._threads.submit(advance, self.root, group.id, at_once, self.worker)
        try:
            return waiting.result(ANSWER_S)
        except TimeoutError:
            self._waiting[group.id] = waiting
            return True


def trials_at_once(config: TrainConfig, gpus: int) -> int:
    """Number of trials of a sweep that can train at the same time on this machine."""
    return 1 if config.run.device == "cpu" else max(1, gpus // config.run.devices)
