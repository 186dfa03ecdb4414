"""Agreement of predicted and reference volumes over cases (Bland and Altman 1986)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LIMIT_SD = 1.96  # standard deviations from the bias to a limit of agreement


@dataclass(frozen=True)
class Agreement:
    """Differences of prediction minus reference.

    Attributes
    ----------
    n : int. Number of cases.
    bias : float. Mean difference; NaN without any.
    lower, upper : float. Limits of agreement: the bias minus and plus 1.96 standard deviations (n - 1); NaN with fewer
        than two cases.
    """

    n: int
    bias: float
    lower: float
    upper: float


def agreement(truth: Sequence[float], prediction: Sequence[float]) -> Agreement:
    """Bias and limits of agreement of paired measurements.

    Parameters
    ----------
    truth, prediction : sequence of float, one per case.
    """
    differences = np.asarray(prediction, float) - np.asarray(truth, float)
    if differences.size < 2:
        return Agreement(
            differences.size, float(differences.mean()) if differences.size else math.nan, math.nan, math.nan
        )
    bias, reach = float(differences.mean()), LIMIT_SD * float(differences.std(ddof=1))
    return Agreement(differences.size, bias, bias - reach, bias + reach)
