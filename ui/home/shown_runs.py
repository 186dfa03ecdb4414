"""The runs of the Home page: those that train or wait, and those that have ended; of a group one that stands for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.runs import ACTIVE, RunSummary
from core.runs.groups import GroupSummary
from ui.shared import formatting


@dataclass(frozen=True)
class ShownRun:
    """A run on the Home page.

    Attributes
    ----------
    run : RunSummary.
    group : GroupSummary, optional. The group that the run stands for.
    """

    run: RunSummary
    group: GroupSummary | None = None

    @property
    def state(self) -> str:
        """The state of the group, else of the run."""
        return self.group.state if self.group is not None else self.run.state.state


def shown_runs(
    all_runs: Sequence[RunSummary], all_groups: Sequence[GroupSummary]
) -> tuple[list[ShownRun], list[ShownRun]]:
    """What trains, then what waits, in the order in which it was started; and what has ended, the newest first."""
    grouped = {run_id for group in all_groups for run_id in group.group.runs}
    shown = [ShownRun(run) for run in all_runs if run.id not in grouped]
    shown += [ShownRun(_representative(group), group) for group in all_groups if group.runs]
    going_on = [one for one in shown if one.state in formatting.WAITING_OR_ACTIVE]
    ended = [one for one in shown if one.state not in formatting.WAITING_OR_ACTIVE]
    going_on.sort(key=lambda one: (one.state == "queued", one.run.state.created_at))
    return going_on, sorted(ended, key=lambda one: one.run.state.created_at, reverse=True)


def _representative(group: GroupSummary) -> RunSummary:
    """The run that trains, else the next that waits, else the one with the highest Dice, else the first."""
    training = next((run for run in group.runs if run.state.state in ACTIVE), None)
    waiting = next((run for run in group.runs if run.state.state == "queued"), None)
    return training or waiting or max(group.runs, key=_dice)


def _dice(run: RunSummary) -> float:
    """The mean Dice of a run, by which the best trial of a sweep is chosen too: of finished runs only."""
    score = run.state.score
    return -1.0 if run.state.state != "finished" or score is None or score.mean_dice is None else score.mean_dice
