"""Early stopping: training ends when the held-out Dice of whole volumes has not grown for a while.

One validation alone says little: on few subjects it goes up and down by more than an epoch adds. So it is smoothed, as
nnU-Net does with its own choice of the best epoch, and the smoothed value is what must grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

SMOOTHING = 0.7  # share of the old value


@dataclass
class EarlyStopping:
    """Counts the validations since the smoothed Dice was best.

    Attributes
    ----------
    limit : validations without a better value after which training ends; 0: never.
    smoothed, best : the smoothed Dice now, and the best it was.
    waited : validations since then.
    """

    limit: int
    smoothed: float | None = None
    best: float | None = None
    waited: int = 0

    def update(self, dice: float) -> None:
        """Take a validation into account; one that is no number counts as no better."""
        if not math.isnan(dice):
            old = self.smoothed
            self.smoothed = float(dice if old is None else SMOOTHING * old + (1 - SMOOTHING) * dice)
            if self.best is None or self.smoothed > self.best:
                self.best, self.waited = self.smoothed, 0
                return
        self.waited += 1

    @property
    def should_stop(self) -> bool:
        """Whether training should end."""
        return 0 < self.limit <= self.waited

    def reason(self) -> str:
        """A sentence for people; empty unless it is over."""
        if not self.should_stop:
            return ""
        best = "" if self.best is None else f"; the best was {self.best:.4f}"
        return f"ended early: the smoothed Dice of held-out volumes has not grown in {self.waited} validations{best}"

    def to_json(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"smoothed": self.smoothed, "best": self.best, "waited": self.waited}

    def restore(self, data: dict[str, Any]) -> None:
        """Go back to what :meth:`to_json` gave."""
        self.smoothed, self.best, self.waited = data["smoothed"], data["best"], int(data["waited"])
