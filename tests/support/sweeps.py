"""Sweeps without training: their trials are given the results that a trainer would write."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.config import TrainConfig
from core.events import WHOLE_VOLUMES_MEASURED
from core.runs.group_summary import SweepSummary
from core.runs.store import metrics_file
from core.runs.store.groups import Group, read_group
from core.runs.store.process import process_identity
from core.runs.store.state import Best, State, read_state, write_state
from core.runs.sweeps import advance, submit_sweep, sweep_of
from core.sweeps.settings import SweepOptions, SweepSettings
from core.sweeps.space import parse_space

SEARCH = ("learning_rate=1e-4:1e-1:log", "loss=dice,dice_ce,tversky", "tversky_alpha=0.1:0.9")


def make_sweep(root: Path, config: TrainConfig, search: Sequence[str] = SEARCH, **options: Any) -> Group:
    """A sweep without trials."""
    return submit_sweep(root, config, SweepSettings(parse_space(search), SweepOptions(**options)), "search")


def next_trial(root: Path, group: Group, at_once: int = 1) -> str:
    """Advance a sweep; returns the run of its newest trial."""
    advance(root, group.id, at_once)
    return read_group(root, group.id).runs[-1]


def end_trial(
    root: Path, run: str, dice: float | None, state: State = "finished", on: str = WHOLE_VOLUMES_MEASURED, **values: Any
) -> None:
    """Write how a trial ended: its best Dice, where there is one."""
    best = None if dice is None else Best(6, dice, on, 48)
    if dice is not None:
        for epoch in (1, 2, 4, 6):
            metrics_file.append_metrics(
                root / run, epoch, epoch * 8, epoch * 1.0, {"whole/dice_mean": dice * epoch / 6}
            )
    ended: dict[str, Any] = (
        dict(state=state, attempt=1, best=best, epoch=6, epochs=6, step=48, elapsed_s=6.0, ended_at=time.time())
        | values
    )
    write_state(root / run, dataclasses.replace(read_state(root / run), **ended))


def run_trial(root: Path, run: str, pid: int, dice: Sequence[float] = ()) -> None:
    """Have a trial train in a process that is alive, with the Dice of its epochs so far."""
    for epoch, value in enumerate(dice, start=1):
        metrics_file.append_metrics(root / run, epoch, epoch * 8, epoch * 1.0, {"whole/dice_mean": value})
    alive: dict[str, Any] = dict(state="running", pid=pid, pid_start=process_identity(pid), epoch=len(dice), epochs=6)
    write_state(root / run, dataclasses.replace(read_state(root / run), **alive))


def finish_trials(root: Path, group: Group, number: int) -> SweepSummary:
    """Propose and finish trials: the nearer the learning rate is to 0.01, the higher the Dice."""
    for _ in range(number):
        run = next_trial(root, group)
        values = read_group(root, group.id).members[-1].values
        rate, bonus = values.get("learning_rate", 0.01), 0.02 if values.get("loss") == "dice_ce" else 0.0
        end_trial(root, run, round(0.9 - 0.1 * abs(0.01 - rate) / 0.1 + bonus, 4))
    return sweep_of(root, read_group(root, group.id))


def sweep_summary(root: Path, group: Group) -> SweepSummary:
    """The sweep as it is now."""
    return sweep_of(root, read_group(root, group.id))


def trial_states(root: Path, group: Group) -> list[str]:
    """The states of its trials, in their order."""
    return [trial.state for trial in sweep_summary(root, group).trials]
