"""Trials of a sweep as input of its sampler and pruner: values, state, and best Dice at each twentieth of training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import TrainConfig

STEPS = 20  # points of training at which trials are compared
TrialState = Literal["waiting", "running", "finished", "pruned", "stopped", "failed", "deleted"]
OPEN: tuple[TrialState, ...] = ("waiting", "running")


@dataclass(frozen=True)
class Measurement:
    """The mean Dice of a validation.

    Attributes
    ----------
    epoch : int. Epoch.
    elapsed_s : float. Training time before it.
    dice : float. Mean Dice; NaN where it is not defined.
    """

    epoch: int
    elapsed_s: float
    dice: float


@dataclass(frozen=True)
class TrialRecord:
    """A trial.

    Attributes
    ----------
    values : dict. Values of the searched fields that its network and loss use.
    state : str. One of :data:`TrialState`. "failed": it raised an error or died, or has no Dice of the objective.
    dice : float or None. The objective, of a finished trial.
    curve : dict. By twentieth of training, the best Dice until then; without those before the first validation.
    compared_to : int. Twentieth of the last but one validation, up to which the trial has been compared already; -1
        without one.
    """

    values: dict[str, Any]
    state: TrialState
    dice: float | None = None
    curve: dict[int, float] = field(default_factory=dict)
    compared_to: int = -1

    @property
    def steps(self) -> list[int]:
        """The twentieths of the curve."""
        return sorted(self.curve)

    @property
    def best(self) -> float:
        """The best Dice so far."""
        return self.curve[max(self.curve)]


def progress_curve(
    measurements: Iterable[Measurement], config: TrainConfig, ended: bool
) -> tuple[dict[int, float], int]:
    """The best Dice so far by twentieth of training (of the time budget, or of the epochs where there is none), and the
    twentieth of the last but one validation, -1 without one.

    Parameters
    ----------
    measurements : iterable of Measurement. In order.
    config : TrainConfig. Configuration of the run.
    ended : bool. Whether training was completed, perhaps early: its best Dice then counts up to the last twentieth.
    """
    best: dict[int, float] = {}
    highest = -math.inf
    for measurement in measurements:
        if math.isnan(measurement.dice):
            continue
        highest = max(highest, measurement.dice)
        best[_twentieth(measurement, config)] = highest
    if not best:
        return {}, -1
    last = STEPS if ended else max(best)
    curve: dict[int, float] = {}
    for step in range(min(best), last + 1):
        curve[step] = best.get(step, curve.get(step - 1, math.nan))
    return curve, max((step for step in best if step < max(best)), default=-1)


def _twentieth(measurement: Measurement, config: TrainConfig) -> int:
    budget_s = config.run.minutes * 60
    share = measurement.elapsed_s / budget_s if budget_s else measurement.epoch / config.run.epochs
    return min(math.floor(share * STEPS + 1e-9), STEPS)


def failures_in_a_row(trials: Iterable[TrialRecord]) -> int:
    """Number of trials that failed since the last one with a Dice."""
    failures = 0
    for trial in trials:
        if trial.state in ("finished", "pruned"):
            failures = 0
        elif trial.state == "failed":
            failures += 1
    return failures
