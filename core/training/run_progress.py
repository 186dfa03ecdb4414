"""Progress of a run from start to end: by optimizer steps, or by the clock under a time budget."""

from __future__ import annotations

import time

from core.config import RunConfig

MAX_RESERVE_FRACTION = 0.5  # of a time budget, for the final validation
MIN_KEEPING_S, KEEPING_SHARE = 30.0, 0.05  # for keeping predictions after training: at least, and of the training time


def keeping_limit_s(training_s: float) -> float:
    """Longest time to segment and score held-out subjects after so much time of training, for Review."""
    return max(MIN_KEEPING_S, KEEPING_SHARE * training_s)


class RunProgress:
    """Elapsed time, remaining time and progress of a run. Its clock starts with the first step (:meth:`start`): what
    precedes, such as reading subjects, takes nothing of a time budget.

    Parameters
    ----------
    config : RunConfig. Epochs, or minutes of a time budget.
    steps_per_epoch : int. Optimizer steps.

    Attributes
    ----------
    previous_elapsed_s : float. Time spent before a resume.
    reserve_s : float. Part of a time budget that is reserved for the final validation.
    """

    def __init__(self, config: RunConfig, steps_per_epoch: int) -> None:
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self._started: float | None = None
        self.previous_elapsed_s = 0.0
        self.reserve_s = 0.0

    def start(self) -> None:
        """Start the clock: the first step, or that of the resumed part, follows."""
        self._started = time.monotonic()

    @property
    def budget_s(self) -> float:
        """The time budget; 0 without one."""
        return self.config.minutes * 60

    @property
    def elapsed_s(self) -> float:
        """Time since the first step, including that before a resume; 0 before the first step."""
        return self.previous_elapsed_s + (0.0 if self._started is None else time.monotonic() - self._started)

    def can_reserve(self, validation_s: float) -> bool:
        """Whether the time budget allows a final validation of this length."""
        return not self.budget_s or validation_s <= MAX_RESERVE_FRACTION * self.budget_s

    def reserve(self, validation_s: float) -> None:
        """Reserve time for the final validation, at most half of the budget."""
        self.reserve_s = min(validation_s, MAX_RESERVE_FRACTION * self.budget_s)

    def fraction(self, step: int) -> float:
        """Progress of the training steps: 0 at the start, 1 at the end; above 1 if time ran out during a step."""
        if self.budget_s:
            return self.elapsed_s / max(self.budget_s - self.reserve_s, 1e-3)
        return step / (self.config.epochs * self.steps_per_epoch)

    def estimated_epochs(self, step: int, epoch: int) -> int:
        """Total number of epochs, at least the present one; under a time budget estimated from the speed so far."""
        if not self.budget_s or not step:
            return self.config.epochs
        epochs_done = step / self.steps_per_epoch
        return max(epoch, round(epochs_done / max(min(self.fraction(step), 1.0), 1e-6)))

    def remaining_s(self, step: int) -> float | None:
        """Time until the end of the run; ``None`` before the first step."""
        if self.budget_s:
            return max(self.budget_s - self.elapsed_s, 0.0)
        fraction = self.fraction(step)
        return self.elapsed_s * (1 / fraction - 1) if fraction > 0 else None
