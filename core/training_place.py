"""Where a run will train, and how long earlier runs took there relative to the estimate, which corrects it."""

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


@dataclass(frozen=True)
class TrainingPlace:
    """Where a run will train.

    Attributes
    ----------
    device : str. Kind of device, as torch names it.
    measured : DurationFactors. Durations of the last runs there.
    engine : str. Name of the engine on other machines; empty for this machine.
    assumed : str. What is not known of the device, and was assumed, as a clause; empty where nothing was.
    """

    device: str = "cpu"
    measured: DurationFactors = DurationFactors()
    engine: str = ""
    assumed: str = ""
