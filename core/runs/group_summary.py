"""A group of runs as pages and commands show it: its runs, state and progress; of a sweep also its trials."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from core.errors import ConfigError
from core.events import WHOLE_VOLUMES_MEASURED
from core.fields import FieldSpec
from core.formatting import format_count, format_list
from core.runs.catalog import RunSummary, list_runs
from core.runs.store.groups import SWEEP, Group, Member, read_group
from core.runs.store.state import ACTIVE, Best, State
from core.runs.store.stop_file import read_pruned
from core.sweeps.history import OPEN, TrialState
from core.sweeps.settings import SweepSettings, objective

_ACTIVE: tuple[State, ...] = ("running", *(state for state in ACTIVE if state != "running"))
_STATES: tuple[State, ...] = (*_ACTIVE, "queued", "failed", "crashed", "stopped")
_ENDED_EARLY: dict[str, TrialState] = {"stopped": "stopped", "failed": "failed", "crashed": "failed"}


NOT_USED = "not used"  # in place of a value of a field that the network and loss of a trial do not use


@dataclass(frozen=True)
class GroupSummary:
    """A group and its runs.

    Attributes
    ----------
    group : Group.
    runs : tuple of RunSummary. Those that exist, in the order of the members.
    """

    group: Group
    runs: tuple[RunSummary, ...]

    @property
    def missing(self) -> tuple[Member, ...]:
        """Members whose run was deleted, or not made because queueing was interrupted."""
        existing = {run.id for run in self.runs}
        return tuple(member for member in self.group.members if member.run not in existing)

    @property
    def finished(self) -> int:
        """Number of finished runs."""
        return sum(run.state.state == "finished" for run in self.runs)

    @property
    def total(self) -> int:
        """Number of runs that it will have."""
        return len(self.group.members)

    @property
    def noun(self) -> str:
        """What a run of the group is called."""
        return "fold"

    @property
    def state(self) -> State:
        """The state of the runs as one: running where one is, finished where all are."""
        states = {run.state.state for run in self.runs}
        if self.missing:
            states.add("stopped")
        return next((state for state in _STATES if state in states), "finished")

    @property
    def progress(self) -> float:
        """Share of the work that is done, 0 to 1: the mean over the members."""
        shares = [1.0 if run.state.state == "finished" else run.progress or 0.0 for run in self.runs]
        return sum(shares) / len(self.group.members)

    @property
    def mean_dice(self) -> float | None:
        """Mean over the runs of the mean Dice of each so far, by which its best epoch is chosen. Where some are of
        whole volumes, those of sub-volumes do not count."""
        known = [score.mean_dice for score in self._compared if score.mean_dice is not None]
        return fmean(known) if known else None

    @property
    def _compared(self) -> list[Best]:
        scores = [run.state.score for run in self.runs if run.state.score is not None]
        return [score for score in scores if score.measured_on == WHOLE_VOLUMES_MEASURED] or scores

    @property
    def measured(self) -> str:
        """What :attr:`mean_dice` is; empty where there is none."""
        number = len(self._compared)
        return f"mean of {number} of {self.total}" if number else ""

    @property
    def other_differences(self) -> tuple[str, ...]:
        """Fields besides the held-out subjects in which the configurations of the members differ."""
        split = {"fold", "folds", "val_subjects", "split_seed", "shuffle_subjects"}
        return tuple(dict.fromkeys(n for m in self.group.members for n in m.values if n not in split))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without scores."""
        group = self.group
        return {
            "id": group.id,
            "name": group.name,
            "kind": group.kind,
            "created_at": group.created_at,
            "state": self.state,
            "finished": self.finished,
            "members": [
                {"run": member.run, "values": member.values, "state": self._state_of(member.run)}
                for member in group.members
            ],
            "config": group.config.to_json(),
        }

    def _state_of(self, run_id: str) -> str | None:
        return next((run.state.state for run in self.runs if run.id == run_id), None)


@dataclass(frozen=True)
class Trial:
    """A trial of a sweep.

    Attributes
    ----------
    number : int. From 1, in the order in which they were proposed.
    member : Member. Its run and the values of the searched fields.
    state : str. One of :data:`core.sweeps.history.TrialState`.
    dice : float or None. Its best Dice by the objective so far; of a finished trial the one it is judged by.
    reason : str. Why it ended early or counts as failed.
    run : RunSummary, optional. ``None`` where it was deleted.
    """

    number: int
    member: Member
    state: TrialState
    dice: float | None
    reason: str
    run: RunSummary | None

    def value(self, spec: FieldSpec) -> Any:
        """Its value of a field; ``None`` where its network and loss do not use the field."""
        values = self.member.values
        return spec.coerce(values[spec.name]) if spec.name in values else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "trial": self.number,
            "run": self.member.run,
            "values": self.member.values,
            "state": self.state,
            "dice": self.dice,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class SweepSummary(GroupSummary):
    """A sweep, its runs and trials.

    Attributes
    ----------
    settings : SweepSettings. What is searched and how; without fields where the file of the group is not understood.
    """

    settings: SweepSettings

    @functools.cached_property
    def trials(self) -> tuple[Trial, ...]:
        """All trials that were proposed."""
        by_id = {run.id: run for run in self.runs}
        members = enumerate(self.group.members, start=1)
        return tuple(_trial(number, m, by_id.get(m.run), self.settings, self.objective) for number, m in members)

    @property
    def objective(self) -> str:
        """What the Dice of the trials is measured on."""
        return objective(self.group.config)

    @property
    def measure(self) -> str:
        """By what trials are compared, and the budget of each, as words of a sentence."""
        config = self.group.config
        budget = f"{config.run.minutes:g} minutes" if config.run.minutes else format_count(config.run.epochs, "epoch")
        named = config.split.val_subjects
        held_out = format_list(named) if named else f"fold {config.split.fold}"
        return f"mean Dice on {self.objective}, {held_out}, seed {config.run.seed}, {budget} each"

    @property
    def ranked(self) -> list[Trial]:
        """The trials, the highest Dice first, then those without one in order."""
        return sorted(self.trials, key=lambda trial: (trial.dice is None, -(trial.dice or 0.0), trial.number))

    @property
    def noun(self) -> str:
        return "trial"

    @property
    def total(self) -> int:
        """Number of trials that it will have."""
        return len(self.trials) if self.settings.exhausted else max(self.settings.options.trials, len(self.trials))

    @property
    def active(self) -> list[Trial]:
        """Trials that wait in the queue or train."""
        return [trial for trial in self.trials if trial.state in OPEN]

    @property
    def ended(self) -> int:
        """Number of trials that have ended in any state."""
        return len(self.trials) - len(self.active)

    @property
    def proposes(self) -> bool:
        """Whether further trials are to be proposed."""
        return self.settings.proposes(len(self.group.members))

    @property
    def proposes_if_reopened(self) -> bool:
        """Whether trials are left to propose, or one to make, once it is resumed."""
        settings = self.settings
        left = len(self.trials) < self.total or bool(settings.pending_run)
        return bool(settings.space) and not settings.exhausted and left

    @property
    def finished(self) -> int:
        """Number of trials with a result."""
        return sum(trial.state == "finished" for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The finished trial with the highest Dice, the first of equals."""
        finished = [trial for trial in self.trials if trial.state == "finished" and trial.dice is not None]
        return max(finished, key=lambda trial: (trial.dice, -trial.number)) if finished else None

    @property
    def state(self) -> State:
        active = {trial.run.state.state for trial in self.active if trial.run is not None}
        for state in (*_ACTIVE, "queued"):
            if state in active:
                return state
        if self.active or self.proposes:
            return "queued"
        if self.settings.problem:
            return "failed"
        if self.settings.stopped and len(self.trials) < self.total:
            return "stopped"
        return "finished" if self.finished or not self.trials else "failed"

    @property
    def progress(self) -> float:
        running = sum(trial.run.progress or 0.0 for trial in self.active if trial.run is not None)
        return (self.ended + running) / self.total if self.total else 1.0

    @property
    def mean_dice(self) -> float | None:
        """The Dice of the best trial."""
        return self.best.dice if self.best is not None else None

    @property
    def measured(self) -> str:
        return f"best of {self.finished}" if self.finished else ""

    def to_json(self) -> dict[str, Any]:
        best = self.best
        return {
            **super().to_json(),
            "objective": f"mean Dice on {self.objective}",
            **self.settings.to_json(),
            "trials_proposed": len(self.trials),
            "best": None if best is None else best.to_json(),
            "trial_list": [trial.to_json() for trial in self.trials],
        }


def settings_of(group: Group) -> SweepSettings:
    """The settings of a sweep; stopped and without fields where they are not understood."""
    try:
        return SweepSettings.from_json(group.settings)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        return SweepSettings((), stopped=True, problem=f"its settings cannot be read: {error}")


def summary_of(group: Group, by_id: Mapping[str, RunSummary]) -> GroupSummary:
    """A group and those of its runs that exist."""
    runs = tuple(by_id[id] for id in group.runs if id in by_id)
    return SweepSummary(group, runs, settings_of(group)) if group.kind == SWEEP else GroupSummary(group, runs)


def listed_group(root: Path, group_id: str) -> GroupSummary:
    """A group as lists of runs show it (:func:`core.runs.catalog.list_runs`), which do not read the states of runs
    that have ended again: for pages, which draw it every two seconds.

    Raises
    ------
    RunError
        If there is no such group.
    """
    group = read_group(root, group_id)
    own = set(group.runs)
    return summary_of(group, {run.id: run for run in list_runs(root) if run.id in own})


def _trial(number: int, member: Member, run: RunSummary | None, settings: SweepSettings, objective: str) -> Trial:
    if run is None:
        if settings.pending_run != member.run:
            return Trial(number, member, "deleted", None, "its run was deleted", run)
        if settings.stopped:
            return Trial(number, member, "stopped", None, "its run is not made yet", run)
        return Trial(number, member, "waiting", None, "", run)
    state, score = run.state.state, run.state.score
    dice = _dice(score, objective)
    if state == "queued":
        return Trial(number, member, "waiting", None, "", run)
    if run.state.active:
        return Trial(number, member, "running", dice, "", run)
    if state == "finished":
        if dice is not None and run.state.score_is_final:
            return Trial(number, member, "finished", dice, "", run)
        on = f"its Dice was measured on {score.measured_on}" if score and score.measured_on else "it has no Dice"
        return Trial(number, member, "failed", None, f"{on}, trials are compared on {objective}", run)
    if reason := read_pruned(run.folder):
        return Trial(number, member, "pruned", dice, reason, run)
    return Trial(number, member, _ENDED_EARLY[state], dice, run.state.message, run)


def _dice(score: Best | None, objective: str) -> float | None:
    return score.mean_dice if score is not None and score.measured_on == objective else None
