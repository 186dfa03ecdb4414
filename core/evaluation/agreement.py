"""Agreement of predicted and reference volumes over cases (Bland and Altman 1986).

A case that has the class in neither of the two says nothing about its volume, and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.evaluation.metrics import SubjectScore

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


def volumes_of(scores: Mapping[str, SubjectScore], class_name: str) -> dict[str, tuple[float, float]]:
    """Volume in ml of reference and prediction by case, of the cases in which the class is in one of them."""
    found = {id: score.volume_ml.get(class_name, {}) for id, score in scores.items()}
    pairs = {id: (v["truth"], v["prediction"]) for id, v in found.items() if {"truth", "prediction"} <= set(v)}
    return {id: pair for id, pair in pairs.items() if any(pair)}


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
