"""Measured durations of earlier runs relative to the estimated ones, which correct the estimate for the next run."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DurationFactors:
    """Durations of the next run as multiples of the estimated ones.

    Attributes
    ----------
    shortest, longest : float. Bounds of the duration.
    runs : int. Number of runs that they come from; 0 if no run has a measured speed.
    """

    shortest: float = 1.0
    longest: float = 1.0
    runs: int = 0

    @property
    def expected(self) -> float:
        """The duration in the middle of the bounds, on a logarithmic scale."""
        return math.sqrt(self.shortest * self.longest)

    @property
    def source(self) -> str:
        """The runs that they come from, "the last 3 runs"; empty without any."""
        if not self.runs:
            return ""
        return "the last run" if self.runs == 1 else f"the last {self.runs} runs"
