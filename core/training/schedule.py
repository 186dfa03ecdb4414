"""Where a run is between its start and its end: by steps, or by the clock under a time budget."""

from __future__ import annotations

import time

from core.config import RunConfig

RESERVE_SHARE = 0.5  # of a time budget, at most, is kept for the last validation


class Schedule:
    """Progress, time spent and time left of a run.

    Parameters
    ----------
    config : epochs, or minutes.
    steps_per_epoch : optimizer steps.
    started : ``time.monotonic()`` at which the run (or the resumed part of it) began.

    Attributes
    ----------
    elapsed_before_s : spent before a resume.
    reserve_s : of a time budget, kept for the last validation.
    """

    def __init__(self, config: RunConfig, steps_per_epoch: int, started: float) -> None:
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.started = started
        self.elapsed_before_s = 0.0
        self.reserve_s = 0.0

    @property
    def total_s(self) -> float:
        """The time budget; 0 without one."""
        return self.config.minutes * 60

    @property
    def elapsed_s(self) -> float:
        """Seconds spent on the run, those before a resume included."""
        return self.elapsed_before_s + time.monotonic() - self.started

    def affords(self, validation_s: float) -> bool:
        """Whether a validation of that length may stand at the end of the run."""
        return not self.total_s or validation_s <= RESERVE_SHARE * self.total_s

    def keep(self, validation_s: float) -> None:
        """Keep that much of a time budget for the last validation, half of it at most."""
        self.reserve_s = min(validation_s, RESERVE_SHARE * self.total_s)

    def progress(self, step: int) -> float:
        """0 at the start, 1 where training steps end; above it where time ran out within a step."""
        if self.total_s:
            return self.elapsed_s / max(self.total_s - self.reserve_s, 1e-3)
        return step / (self.config.epochs * self.steps_per_epoch)

    def epochs(self, step: int) -> int:
        """How many epochs there will be: under a time budget an estimate from the speed so far."""
        if not self.total_s or not step:
            return self.config.epochs
        so_far = step / self.steps_per_epoch
        return max(-(-step // self.steps_per_epoch), round(so_far / max(min(self.progress(step), 1.0), 1e-6)))

    def remaining_s(self, step: int) -> float | None:
        """Seconds until the end of the run; ``None`` before anything is known."""
        if self.total_s:
            return max(self.total_s - self.elapsed_s, 0.0)
        progress = self.progress(step)
        return self.elapsed_s * (1 / progress - 1) if progress > 0 else None
