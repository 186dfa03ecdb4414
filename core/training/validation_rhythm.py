"""When a network is validated during training: early, then at a rhythm that takes a small share of the time."""

from __future__ import annotations

FIRST_S = 20.0  # training time before the first validation, at most
FIRST_FRACTION = 0.1  # of a time budget, if that is earlier
MAX_SHARE = 0.05  # of the training time, for validations
GROWTH = 0.05  # share of the training time between two validations within epochs: long runs need few of them


class ValidationRhythm:
    """Decides when a validation is due. Without a time budget one is due after every epoch, and further ones within
    long epochs.

    Parameters
    ----------
    budget_s : float. Time budget of the run; 0 without one.

    Attributes
    ----------
    expected_s : float. Expected duration of a validation on sub-volumes; 0 before it is known.
    """

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self.expected_s = 0.0
        self._first_s = min(FIRST_S, FIRST_FRACTION * budget_s) if budget_s else FIRST_S
        self._spent_s = 0.0
        self._last_s: float | None = None  # training time at the end of the last validation

    def resume(self, elapsed_s: float) -> None:
        """Continue after ``elapsed_s`` of training: the next validation is due an interval later."""
        self._last_s = elapsed_s

    def is_due(self, elapsed_s: float, epoch_complete: bool) -> bool:
        """Whether sub-volumes are validated now, between two steps or after an epoch."""
        if epoch_complete and not self.budget_s:
            return True
        if self._last_s is None:
            affordable = not self.budget_s or self.expected_s <= MAX_SHARE * self.budget_s
            return affordable and elapsed_s >= self._first_s
        interval_over = elapsed_s - self._last_s >= max(self._first_s, GROWTH * elapsed_s)
        return (epoch_complete or interval_over) and self.allows(elapsed_s, self.expected_s)

    def allows(self, elapsed_s: float, validation_s: float) -> bool:
        """Whether validations keep to their share of the training time with one more of this duration."""
        return self._spent_s + validation_s <= MAX_SHARE * elapsed_s

    def record(self, elapsed_s: float, validation_s: float) -> None:
        """Add a validation that took so long and ended at this training time."""
        self._spent_s += validation_s
        self._last_s = elapsed_s
