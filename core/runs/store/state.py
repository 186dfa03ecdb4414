"""State of a run as it was written last: the content of ``state.json``, read and written.

The file has one writer at a time: the holder of the folder's lock while the run is not active, only the trainer from
"starting" on. The trainer's parent process writes only ``exit.json``. What the file says may be outdated:
:mod:`core.runs.store.reconciliation` reconciles it with the run's processes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.errors import RunError
from core.runs.store import folder as files
from core.runs.store.run_origin import Origin

State = Literal[
    "queued", "starting", "running", "stopping", "stalled", "unreachable", "stopped", "finished", "failed", "crashed"
]
ACTIVE: tuple[State, ...] = ("starting", "running", "stopping", "stalled", "unreachable")
OBSERVED: tuple[State, ...] = ("stalled", "unreachable")  # seen from elsewhere, never written
ENDED: tuple[State, ...] = ("stopped", "finished", "failed", "crashed")
STALLED_S = 120.0  # shortest time without an update after which a run counts as stalled
STALLED_TIMES = 5.0  # and that many times its longest gap between updates
RESUMABLE: tuple[State, ...] = ("stopped", "failed", "crashed")
STOPPABLE: tuple[State, ...] = ("queued", "starting", "running", *OBSERVED)  # not yet requested to stop


@dataclass(frozen=True)
class Best:
    """The held-out Dice of an epoch, the best one so far or the last one.

    Attributes
    ----------
    epoch : int. Epoch.
    mean_dice : float or None. Its mean Dice without background.
    measured_on : str or None. What the Dice was measured on: held-out whole volumes or sub-volumes.
    step : int. Optimiser step of the measurement; 0 in runs of earlier versions.
    """

    epoch: int
    mean_dice: float | None
    measured_on: str | None
    step: int = 0

    def is_at(self, epoch: int, step: int) -> bool:
        """Whether a measurement at this epoch and step is of the same weights."""
        return step == self.step if self.step else epoch == self.epoch


@dataclass(frozen=True)
class RunState:
    """The mutable facts about a run. Times ending in ``_at`` are seconds since 1970 (UTC).

    Attributes
    ----------
    state : str. One of :data:`State`. "failed": the trainer raised an error; "crashed": it died; "stalled": its engine
        reports that it runs, but its heartbeat has stopped; "unreachable": no heartbeat arrives from its host.
    message : str. Reason of the state, shown to users; may be empty.
    what : str. Present activity ("training", "reading subjects 3/10").
    done, total : int. Units of the present activity, such as subjects; 0 where it is not counted.
    pid, pid_start : int or None, str. PID and process identity of the trainer; on several devices, of torchrun.
    shim_pid, shim_start : int or None, str. PID and process identity of the trainer's parent process.
    host : str. Host that trains it, or in whose queue it is; empty in runs of earlier versions.
    pid_space, marks : str, tuple of str. PID space of that host, and ids by which it is recognised under another name;
        see :class:`~core.runs.store.run_origin.Origin`.
    gpus : tuple of int. GPU indices assigned by the queue; empty for the CPU and for runs in a terminal.
    attempt : int. Number of starts; above 1 after a resume.
    epoch, epochs : int. Present epoch; planned epochs, an estimate under a time budget, 0 before it is known.
    step : int. Optimiser steps taken.
    best : Best or None. Best epoch so far, of which there is a checkpoint.
    latest : Best or None. Last validation on held-out sub-volumes.
    loss : float or None. Last training loss.
    elapsed_s, remaining_s : float, float or None. Time since the first step; estimated time left.
    sub_volumes_per_s : float or None. Training speed.
    turn : float. Queue position: runs start in ascending order; the time of queueing unless the run was moved.
    updated_at : float. Time of the last write of ``state.json``.
    longest_gap_s : float. Longest time between two training events so far.
    facts : dict of str. Facts about the training setup, by name.
    classes : tuple of str. Class names, background first.
    colours : tuple of str. Display colour ``#rrggbb`` of each class; empty in runs of version 0.1.
    """

    state: State = "queued"
    message: str = ""
    what: str = ""
    done: int = 0
    total: int = 0
    pid: int | None = None
    pid_start: str = ""
    shim_pid: int | None = None
    shim_start: str = ""
    host: str = ""
    pid_space: str = ""
    marks: tuple[str, ...] = ()
    gpus: tuple[int, ...] = ()
    attempt: int = 0
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    best: Best | None = None
    latest: Best | None = None
    loss: float | None = None
    elapsed_s: float = 0.0
    remaining_s: float | None = None
    sub_volumes_per_s: float | None = None
    created_at: float = 0.0
    queued_at: float = 0.0
    turn: float = 0.0
    started_at: float | None = None
    updated_at: float = 0.0
    ended_at: float | None = None
    longest_gap_s: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()

    @property
    def score(self) -> Best | None:
        """The best epoch; before there is one, the last validation on held-out sub-volumes."""
        return self.best if self.best is not None and self.best.mean_dice is not None else self.latest or self.best

    @property
    def score_is_final(self) -> bool:
        """Whether the run has ended and its best epoch is chosen; before, the score is one so far."""
        return self.state in ENDED and self.best is not None and self.score is self.best

    @property
    def origin(self) -> Origin:
        """Where it was queued or started."""
        return Origin(self.host, self.pid_space, self.marks)

    def moved_here(self) -> RunState:
        """The state with this process as where it was queued or started."""
        return dataclasses.replace(self, **dataclasses.asdict(Origin.here()))

    @property
    def active(self) -> bool:
        """Whether a process trains it, or may train it."""
        return self.state in ACTIVE

    def ended(self, state: State, message: str, ended_at: float | None = None) -> RunState:
        """The final state: without an activity, its progress, a speed and a time left.

        Parameters
        ----------
        state : str. One of :data:`ENDED`.
        message : str. Reason.
        ended_at : float, optional. Seconds since 1970; now by default.
        """
        return dataclasses.replace(
            self,
            state=state,
            message=message,
            what="",
            done=0,
            total=0,
            remaining_s=None,
            sub_volumes_per_s=None,
            ended_at=time.time() if ended_at is None else ended_at,
        )

    def observed(self, state: State, message: str) -> RunState:
        """The state as it is seen from elsewhere, where nothing shows that it trains now: without a speed and a time
        left, which were those of an earlier moment."""
        return dataclasses.replace(self, state=state, message=message, remaining_s=None, sub_volumes_per_s=None)

    def stalled_s(self, now: float) -> float | None:
        """Time since the last update where it is far longer than any gap of this run so far, else ``None``.

        Parameters
        ----------
        now : float. Present time, in seconds since 1970.
        """
        silent_s = now - self.updated_at
        limit_s = max(STALLED_S, STALLED_TIMES * self.longest_gap_s)
        return silent_s if self.state in ("running", "stopping", "stalled") and silent_s > limit_s else None

    def to_json(self) -> dict[str, Any]:
        """Plain values; a Dice whose step is not known is without it, as earlier versions wrote it."""
        values = dataclasses.asdict(self)
        for dice in filter(None, (values["best"], values["latest"])):
            if not dice["step"]:
                del dice["step"]
        return values

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunState:
        """Inverse of :meth:`to_json`; unknown fields, of a newer version, are ignored.

        Raises
        ------
        RunError
            If the state is not a known one.
        """
        if data.get("state") not in State.__args__:  # type: ignore[attr-defined]
            raise RunError(f"state: expected one of {', '.join(ENDED + ACTIVE)}, queued; got {data.get('state')!r}")
        values = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        for name in ("best", "latest"):
            dice = values.get(name)
            values[name] = (
                Best(dice["epoch"], dice["mean_dice"], dice.get("measured_on"), int(dice.get("step", 0)))
                if dice
                else None
            )
        for name in ("classes", "colours", "gpus", "marks"):
            values[name] = tuple(values.get(name, ()))
        values.setdefault("turn", values.get("queued_at", 0.0))  # queued by an earlier version
        return cls(**values)


def read_state(folder: Path) -> RunState:
    """The content of ``state.json``, which may be outdated: see :mod:`core.runs.store.reconciliation`.

    Raises
    ------
    RunError
        If ``state.json`` is missing or damaged.
    """
    path = folder / files.STATE
    try:
        return RunState.from_json(files.read_json(path, exists=True))
    except (TypeError, KeyError) as error:
        raise RunError(f"{path}: damaged: {error}") from error


def write_state(folder: Path, state: RunState, durable: bool = False) -> RunState:
    """Write ``state.json`` atomically; returns the state with its new ``updated_at``."""
    state = dataclasses.replace(state, updated_at=time.time())
    files.write_json(folder / files.STATE, state.to_json(), durable)
    return state
