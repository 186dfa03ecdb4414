"""Calibration of probabilities: whether a class is right in 90 % of the voxels in which the model gives it 0.9.

Voxels are counted by the stored step of their probability (:mod:`core.runs.kept_maps`): how many there are, and in how
many of them the reference has the class. Counts add up over cases; curves and errors follow from them.

expected calibration error   of a class against all others (Naeini et al. 2015; class-wise as in Kull et al. 2019): the
                             mean over the voxels of |share of the class - mean probability| of their bin.
bias                         mean probability minus share of the class: above 0, the model gives too much.

Most voxels of a volume are clear, far from the class, so that the error over all of them is small for any model. The
unclear ones are those with a probability from 1 to 99 %: a choice by the probability alone, which leaves the reference
out of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 10
UNCLEAR = (0.01, 0.99)


@dataclass(frozen=True)
class Bin:
    """The voxels whose probability is in an interval.

    Attributes
    ----------
    low, high : float. The interval, 0 to 1.
    probability : float. Mean probability of its voxels; NaN without any.
    share : float. Share of them that have the class in the reference; NaN without any.
    voxels : int. Number of voxels.
    """

    low: float
    high: float
    probability: float
    share: float
    voxels: int


@dataclass(frozen=True)
class CalibrationCounts:
    """Voxels by the stored step of the probability of a class or region; step s of S is the probability s / S.

    Attributes
    ----------
    voxels, inside : ndarray, int64, shape (S + 1,). All voxels, and those that have the class in the reference.
    """

    voxels: np.ndarray
    inside: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """The probability of each step, float64, shape (S + 1,)."""
        return np.arange(self.voxels.size) / (self.voxels.size - 1)

    @property
    def unclear(self) -> CalibrationCounts:
        """The voxels with a probability from 1 to 99 %."""
        chosen = (self.probabilities >= UNCLEAR[0]) & (self.probabilities <= UNCLEAR[1])
        return CalibrationCounts(self.voxels * chosen, self.inside * chosen)

    @property
    def total(self) -> int:
        """Number of voxels."""
        return int(self.voxels.sum())

    @property
    def bias(self) -> float:
        """Mean probability minus the share of the class; NaN without voxels."""
        if not self.total:
            return math.nan
        return float((self.voxels * self.probabilities).sum() - self.inside.sum()) / self.total

    def bins(self, count: int = BINS) -> tuple[Bin, ...]:
        """Intervals of equal width; a probability on the border of two belongs to the upper one, and 1 to the last."""
        steps = self.voxels.size - 1
        number = np.minimum(np.arange(steps + 1) * count // steps, count - 1)
        voxels, inside, given = (
            np.bincount(number, weights=values, minlength=count)
            for values in (self.voxels, self.inside, self.voxels * self.probabilities)
        )
        return tuple(
            Bin(
                n / count,
                (n + 1) / count,
                float(given[n] / voxels[n]) if voxels[n] else math.nan,
                float(inside[n] / voxels[n]) if voxels[n] else math.nan,
                int(voxels[n]),
            )
            for n in range(count)
        )

    def expected_error(self, count: int = BINS) -> float:
        """Expected calibration error, 0 to 1; NaN without voxels."""
        if not self.total:
            return math.nan
        filled = [one for one in self.bins(count) if one.voxels]
        return sum(one.voxels * abs(one.share - one.probability) for one in filled) / self.total

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"voxels": self.voxels.tolist(), "inside": self.inside.tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CalibrationCounts:
        """The inverse of :meth:`to_json`.

        Raises
        ------
        ValueError
            If the counts are not those of the same steps.
        """
        voxels, inside = (np.asarray(data[name], np.int64) for name in ("voxels", "inside"))
        if voxels.ndim != 1 or voxels.size < 2 or voxels.shape != inside.shape:
            raise ValueError(f"expected counts of the same steps, got shapes {voxels.shape} and {inside.shape}")
        return cls(voxels, inside)


def count_calibration(stored: np.ndarray, inside: np.ndarray, steps: int, known: np.ndarray) -> CalibrationCounts:
    """Count the voxels of a case.

    Parameters
    ----------
    stored : ndarray, integer, shape (i, j, k). Stored steps of the probability, 0 to ``steps``.
    inside : ndarray, bool, shape (i, j, k). Where the reference has the class or region.
    steps : int. The step of the probability 1.
    known : ndarray, bool, shape (i, j, k). Where the reference says anything: not where it has the ignore label.

    Raises
    ------
    ValueError
        If the shapes differ, or a value is not a step.
    """
    if not stored.shape == inside.shape == known.shape:
        raise ValueError(f"expected three arrays of one shape, got {stored.shape}, {inside.shape} and {known.shape}")
    if stored.size and (stored.min() < 0 or stored.max() > steps):
        raise ValueError(f"expected steps from 0 to {steps}, got {stored.min()} to {stored.max()}")
    counts = (np.bincount(stored[mask], minlength=steps + 1) for mask in (known, known & inside))
    return CalibrationCounts(*(count.astype(np.int64) for count in counts))


def pool_calibration(cases: Iterable[Mapping[str, CalibrationCounts]]) -> dict[str, CalibrationCounts]:
    """The counts of several cases together, by class or region."""
    pooled: dict[str, CalibrationCounts] = {}
    for case in cases:
        for name, counts in case.items():
            before = pooled.get(name)
            pooled[name] = (
                counts
                if before is None
                else CalibrationCounts(before.voxels + counts.voxels, before.inside + counts.inside)
            )
    return pooled
