"""Early stopping on the smoothed held-out Dice of whole volumes.

On few subjects a single validation varies by more than an epoch adds. The Dice is therefore smoothed exponentially, as
nnU-Net smooths it to choose the best epoch, and the smoothed value has to improve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

SMOOTHING = 0.7  # weight of the previous value


@dataclass
class EarlyStopping:
    """Counts the validations since the smoothed Dice last improved.

    Attributes
    ----------
    patience : int. Validations without improvement after which training stops; 0 never stops.
    smoothed : float, optional. Smoothed Dice of the last validation.
    best : float, optional. Highest smoothed Dice.
    wait_count : int. Validations since then.
    """

    patience: int
    smoothed: float | None = None
    best: float | None = None
    wait_count: int = 0

    def update(self, dice: float) -> None:
        """Record a validation; NaN counts as no improvement."""
        if not math.isnan(dice):
            previous = self.smoothed
            self.smoothed = float(dice if previous is None else SMOOTHING * previous + (1 - SMOOTHING) * dice)
            if self.best is None or self.smoothed > self.best:
                self.best, self.wait_count = self.smoothed, 0
                return
        self.wait_count += 1

    @property
    def should_stop(self) -> bool:
        """Whether training should stop."""
        return 0 < self.patience <= self.wait_count

    def reason(self) -> str:
        """A sentence for the log; empty unless training should stop."""
        if not self.should_stop:
            return ""
        best = "" if self.best is None else f"; the best was {self.best:.4f}"
        return (
            f"stopped early: the smoothed Dice of held-out volumes has not improved in {self.wait_count} "
            f"validations{best}"
        )

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"smoothed": self.smoothed, "best": self.best, "waited": self.wait_count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.smoothed, self.best, self.wait_count = state["smoothed"], state["best"], int(state["waited"])
