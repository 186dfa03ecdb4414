"""Where a run is: the state it wrote itself, reconciled with what its processes really do.

Each moment has one writer of ``state.json``: who changes a run that nobody works on holds the folder's lock; from
"starting" on the trainer alone writes it; who waits for the trainer writes only ``exit.json``. :func:`observe` puts the
three together, so it tells the truth even when every process that should have reported is dead.
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
from core.runs.store.process import alive, boot_id

State = Literal["queued", "starting", "running", "stopping", "stopped", "finished", "failed", "crashed"]
ACTIVE: tuple[State, ...] = ("starting", "running", "stopping")
ENDED: tuple[State, ...] = ("stopped", "finished", "failed", "crashed")
STALLED_S = 120.0  # without a sign of life, at least, before a run is called stalled
STALLED_TIMES = 5.0  # and so many times its longest silence so far
RESUMABLE: tuple[State, ...] = ("stopped", "failed", "crashed")


@dataclass(frozen=True)
class Best:
    """The best epoch so far: its mean Dice, and on what that was measured."""

    epoch: int
    mean_dice: float | None
    measured_on: str | None


@dataclass(frozen=True)
class RunState:
    """Everything that changes while a run lives. Times ending in ``_at`` are seconds since 1970 (UTC).

    Attributes
    ----------
    state : see :data:`State`. failed: it raised, ``message`` says what. crashed: it died, ``message`` says how.
    message : why it is in this state, for people; empty where there is nothing to say.
    what : what it is doing just now ("training", "reading subjects 3/10").
    pid, pid_start, shim_pid, shim_start : the trainer (of several: their launcher) and the process that waits for it,
        with their identities.
    gpus : numbers of the GPUs that the queue gave it; none: the CPU, or whatever a run in a terminal takes.
    turn : queued runs start in the order of this number: when it was queued, unless somebody moved it.
    attempt : how often it was started; above 1 after a resume.
    epochs : planned epochs; an estimate under a time budget; 0 before it is known.
    longest_gap_s : longest time between two signs of life so far; how long this run may well be silent.
    facts, classes : what training said about itself when it was ready; class names with the background first.
    """

    state: State = "queued"
    message: str = ""
    what: str = ""
    pid: int | None = None
    pid_start: str = ""
    shim_pid: int | None = None
    shim_start: str = ""
    gpus: tuple[int, ...] = ()
    attempt: int = 0
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    best: Best | None = None
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

    @property
    def active(self) -> bool:
        """Whether a process works on it now."""
        return self.state in ACTIVE

    def stalled_s(self, now: float) -> float | None:
        """Seconds without a sign of life where that is longer than this run has ever been silent by far; ``None`` where
        all is well. ``now``: seconds since 1970."""
        silent = now - self.updated_at
        far = max(STALLED_S, STALLED_TIMES * self.longest_gap_s)
        return silent if self.state in ("running", "stopping") and silent > far else None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunState:
        """Read what :meth:`to_json` gave; unknown fields (a newer version's) are left out.

        Raises
        ------
        RunError
            If it holds no known state.
        """
        if data.get("state") not in State.__args__:  # type: ignore[attr-defined]
            raise RunError(f"state: expected one of {', '.join(ENDED + ACTIVE)}, queued; got {data.get('state')!r}")
        known = {f.name for f in dataclasses.fields(cls)}
        values = {k: v for k, v in data.items() if k in known}
        best = values.get("best")
        values["best"] = Best(best["epoch"], best["mean_dice"], best.get("measured_on")) if best else None
        for name in ("classes", "gpus"):
            values[name] = tuple(values.get(name, ()))
        values.setdefault("turn", values.get("queued_at", 0.0))  # an older version's queue
        return cls(**values)


def read_state(folder: Path) -> RunState:
    """The state as the run last wrote it; see :func:`observe` for the truth.

    Raises
    ------
    RunError
        If ``state.json`` is missing or damaged.
    """
    path = folder / files.STATE
    try:
        return RunState.from_json(files.read_json(path))
    except (TypeError, KeyError) as error:
        raise RunError(f"{path}: damaged: {error}") from error


def write_state(folder: Path, state: RunState, durable: bool = False) -> RunState:
    """Replace ``state.json``; returns the state with its new ``updated_at``."""
    state = dataclasses.replace(state, updated_at=time.time())
    files.write_json(folder / files.STATE, state.to_json(), durable)
    return state


def observe(folder: Path) -> RunState:
    """Where the run truly is. Reads only; never raises for a damaged folder, which is a failed run that says so."""
    try:
        state = read_state(folder)
        if not state.active:
            return state
        ended = _exit_of(folder, state.attempt)
        if ended is None and (alive(state.pid, state.pid_start) or alive(state.shim_pid, state.shim_start)):
            asked = (folder / files.STOP).exists()
            return dataclasses.replace(state, state="stopping") if asked else state
        # A trainer writes its last state just before it exits: read again what it may have written meanwhile.
        state = read_state(folder)
        return _died(state, ended or _exit_of(folder, state.attempt)) if state.active else state
    except RunError as error:
        return RunState(state="failed", message=str(error), created_at=_made_at(folder))


def _made_at(folder: Path) -> float:
    """When the run was made, where its state does not say so: its configuration is written once."""
    try:
        return (folder / files.CONFIG).stat().st_mtime
    except OSError:
        return 0.0


def settle(folder: Path) -> RunState:
    """Write down what :func:`observe` found out about a run whose processes are gone, and return it."""
    state = observe(folder)
    if state.state in ENDED:
        with files.lock(folder):
            state = observe(folder)
            if state.state in ENDED and read_state(folder).active:
                state = write_state(folder, state, durable=True)
    return state


def _exit_of(folder: Path, attempt: int) -> dict[str, Any] | None:
    try:
        ended = files.read_json(folder / files.EXIT)
    except RunError:
        return None
    return ended if ended.get("attempt") == attempt else None


def _died(state: RunState, ended: dict[str, Any] | None) -> RunState:
    what: State = "crashed"
    if ended is None:
        message = "it died, and so did the process that waited for it: how is not known"
        if not state.shim_start.startswith(boot_id()):
            message = "the machine was restarted while it ran (or this folder comes from another machine)"
    elif ended.get("killed_on_request"):
        what, message = "stopped", "ended at once on request; the work since its last checkpoint is lost"
    else:
        message = str(ended.get("reason") or "it died")
    ended_at = ended.get("ended_at") if ended else state.updated_at
    return dataclasses.replace(
        state, state=what, message=message, what="", remaining_s=None, sub_volumes_per_s=None, ended_at=ended_at
    )
