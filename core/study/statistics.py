"""Statistics of the quiz: counts of correct answers with exact confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from core.formatting import format_number


@dataclass(frozen=True)
class Score:
    """Number of correct answers.

    Attributes
    ----------
    correct : int. Correct answers.
    n : int. All answers.
    """

    correct: int
    n: int

    @classmethod
    def of(cls, answers: Iterable[bool]) -> Score:
        """Count answers, each ``True`` where it is correct."""
        outcomes = list(answers)
        return cls(sum(outcomes), len(outcomes))

    @property
    def accuracy(self) -> float:
        """Share of correct answers; NaN without answers."""
        return self.correct / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % confidence interval of the accuracy."""
        return binomial_interval(self.correct, self.n)

    @property
    def accuracy_text(self) -> str:
        """The accuracy as text: ``80 %``."""
        return f"{format_number(100 * self.accuracy, 0)} %"

    @property
    def interval_text(self) -> str:
        """The interval as text: ``44 to 97 %``."""
        low, high = (format_number(100 * bound, 0) for bound in self.interval)
        return f"{low} to {high} %"


def binomial_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact confidence interval of a binomial proportion (Clopper and Pearson, Biometrika 1934).

    Parameters
    ----------
    correct : int. Successes, 0 to ``n``.
    n : int. Trials; without any, the interval is 0 to 1.
    confidence : float. Confidence level, between 0 and 1.

    Returns
    -------
    tuple of float. Lower and upper bound: the proportions at which ``correct`` or more, and ``correct`` or fewer
    successes have probability (1 - confidence) / 2.

    Raises
    ------
    ValueError
        If ``correct`` or ``confidence`` is out of range.
    """
    if not 0 <= correct <= n or not 0 < confidence < 1:
        raise ValueError(
            f"expected 0 to n correct answers and a confidence between 0 and 1, got {correct} of {n}, {confidence}"
        )
    if not n:
        return 0.0, 1.0
    from scipy.stats import binomtest  # takes a second to import

    interval = binomtest(correct, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)
