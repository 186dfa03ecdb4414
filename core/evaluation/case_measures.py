"""Measures by which cases are compared: one number per case, its order, and its place among all cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.evaluation.metrics import SubjectScore
from core.evaluation.surfaces import TOLERANCES_MM, tolerance_key

ALL_CLASSES = "all classes"  # what the mean over classes is called
MIN_CASES = 5  # least number of cases for outliers
FENCE = 1.5  # interquartile ranges beyond a quartile at which a case is an outlier (Tukey)

Kind = Literal["dice", "surface_dice", "hd95_mm", "asd_mm", "volume"]


@dataclass(frozen=True)
class Measure:
    """A score of a case, of one class or over its classes.

    Attributes
    ----------
    kind : str. Field of :class:`core.evaluation.metrics.SubjectScore`, or "volume": difference of the predicted volume
        from that of the reference, in percent of it.
    label : str. In words, with the unit.
    decimals : int.
    tolerance_mm : float. Of the surface Dice.
    """

    kind: Kind
    label: str
    decimals: int
    tolerance_mm: float = 0.0

    @property
    def key(self) -> str:
        """Short name, as in an address."""
        return f"{self.kind}-{tolerance_key(self.tolerance_mm)}" if self.tolerance_mm else self.kind

    @property
    def higher_is_better(self) -> bool:
        """Whether the worst case has the smallest number; else it has the largest."""
        return self.kind in ("dice", "surface_dice")

    def value(self, score: SubjectScore, class_name: str | None = None) -> float:
        """The number of a case.

        Parameters
        ----------
        score : SubjectScore.
        class_name : str, optional. A class or region; by default the mean over those that count for it, of volumes that
            of their sizes without sign.

        Returns
        -------
        float. NaN where it is not scored; infinite where a class is missed that has no distance, or whose reference has
        no volume.
        """
        if class_name is not None:
            return self._of_class(score, class_name)
        values = [self._of_class(score, name) for name in score.counted]
        defined = [abs(value) for value in values if not math.isnan(value)]
        return sum(defined) / len(defined) if defined else math.nan

    def badness(self, value: float) -> float:
        """A number that is larger the worse a value is."""
        return -value if self.higher_is_better else abs(value)

    def _of_class(self, score: SubjectScore, name: str) -> float:
        if math.isnan(score.dice.get(name, math.nan)):
            return math.nan  # in neither segmentation
        if self.kind == "dice":
            return score.dice[name]
        if self.kind == "surface_dice":
            return score.surface_dice.get(name, {}).get(tolerance_key(self.tolerance_mm), math.nan)
        if self.kind == "volume":
            volumes = score.volume_ml.get(name, {})
            truth, prediction = volumes.get("truth", math.nan), volumes.get("prediction", math.nan)
            return 100 * (prediction - truth) / truth if truth else math.inf
        distances = score.hd95_mm if self.kind == "hd95_mm" else score.asd_mm
        return math.inf if name in score.missed else distances.get(name, math.nan)


DICE = Measure("dice", "Dice", 3)
MEASURES = (
    DICE,
    *(Measure("surface_dice", f"Surface Dice, {t:g} mm", 3, t) for t in TOLERANCES_MM),
    Measure("hd95_mm", "HD95 (mm)", 1),
    Measure("asd_mm", "ASD (mm)", 2),
    Measure("volume", "Volume difference (%)", 1),
)


@dataclass(frozen=True)
class Distribution:
    """Values of a measure over cases.

    Attributes
    ----------
    median, lower, upper : float. Median and quartiles (numpy's linear interpolation) of the finite values; NaN without
        any.
    outliers : frozenset of str. Cases that are worse than the worse quartile by more than :data:`FENCE` interquartile
        ranges, and those with an infinite value; empty with fewer than :data:`MIN_CASES` values.
    """

    median: float
    lower: float
    upper: float
    outliers: frozenset[str]


def distribution(values: Mapping[str, float], measure: Measure) -> Distribution:
    """The distribution of the values of a measure by case; NaN is left out."""
    known = {id: value for id, value in values.items() if not math.isnan(value)}
    finite = [value for value in known.values() if math.isfinite(value)]
    if not finite:
        return Distribution(math.nan, math.nan, math.nan, frozenset())
    lower, median, upper = (float(q) for q in np.percentile(finite, (25, 50, 75)))
    if len(known) < MIN_CASES:
        return Distribution(median, lower, upper, frozenset())
    badness = {id: measure.badness(value) for id, value in known.items()}
    first, third = np.percentile([b for b in badness.values() if math.isfinite(b)], (25, 75))
    fence = third + FENCE * (third - first)
    return Distribution(median, lower, upper, frozenset(id for id, b in badness.items() if b > fence))
