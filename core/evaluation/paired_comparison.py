"""Two models on the same cases: who is better where, with a paired test over the cases.

The test is Wilcoxon's signed-rank test of the differences between the two models (two-sided, scipy), per class and
measure. Cases without a difference are left out, as Wilcoxon does. With few cases no difference can be significant: the
smallest p of n pairs is ``2 / 2**n``. Nothing is corrected for the number of tests.

The better model is the one with the larger sum of ranks, which the test compares: it may be better in fewer cases, by
larger differences. Only names that both models score are compared, also in the mean over classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from core.evaluation.case_measures import ALL_CLASSES, Measure
from core.evaluation.metrics import SubjectScore
from core.formatting import MISSING, format_count, format_number

LEVEL = 0.05
TEST_IN_WORDS = (
    "Wilcoxon's signed-rank test over the cases, two-sided, one for each class; below 0.05 such differences are "
    "unlikely to be chance. Nothing is corrected for the number of tests."
)


@dataclass(frozen=True)
class PairedResult:
    """Comparison of one measure of one class.

    Attributes
    ----------
    class_name : str. The class, or "all classes".
    n : int. Cases for which both models have a value.
    first, second : float. Mean of the finite values of each model.
    first_missed, second_missed : int. Cases that are not in that mean, since a missed structure is infinitely far.
    first_false, second_false : int. Cases that are left out since only this model finds the class, which the reference
        lacks: the other one, which is right, has no value.
    first_better, second_better : int. Cases in which each model is better; in the others they are equal.
    median_difference : float. Median of second minus first over the cases; NaN without any.
    p : float. Of the test; NaN where no case differs.
    signed_ranks : float. Sum of the ranks of the differences, above 0 where the second model is better by them.
    """

    class_name: str
    n: int
    first: float
    second: float
    first_missed: int
    second_missed: int
    first_false: int
    second_false: int
    first_better: int
    second_better: int
    median_difference: float
    p: float
    signed_ranks: float

    @property
    def differing(self) -> int:
        """Number of cases in which the models differ."""
        return self.first_better + self.second_better

    @property
    def smallest_p(self) -> float:
        """The smallest p that a test of so many differing cases can have; 1 without any."""
        return min(1.0, 2.0 ** (1 - self.differing))

    def verdict(self, names: Sequence[str]) -> str:
        """The result in words.

        Parameters
        ----------
        names : sequence of str. What the two models are called.
        """
        if not self.n:
            return "no case has a value of both"
        if not self.differing:
            return f"equal in {'the only case' if self.n == 1 else f'all {self.n} cases'}"
        if self.smallest_p > LEVEL:
            return f"{format_count(self.differing, 'case')} that differ are too few for a test (six are the least)"
        if self.p >= LEVEL:
            return f"no clear difference (p = {format_p(self.p)})"
        better, cases, others = (
            (names[1], self.second_better, self.first_better)
            if self.signed_ranks > 0
            else (names[0], self.first_better, self.second_better)
        )
        how = "" if cases >= others else ": in fewer cases, by larger differences"
        return f"{better} is better (p = {format_p(self.p)}){how}"

    def left_out(self, names: Sequence[str]) -> str:
        """What speaks against a model and is in no number, as a sentence; empty without any."""
        parts = [
            f"{format_count(n, 'case')} in which {name} finds it, but neither the other model nor the reference"
            for n, name in zip((self.first_false, self.second_false), names, strict=True)
            if n
        ]
        return f"{self.class_name}: left out, {' and '.join(parts)}." if parts else ""

    def means(self, decimals: int, missing: str = MISSING) -> tuple[str, str]:
        """Both means as text, ``missing`` where there is none, with the number of cases that are not in them."""
        values = ((self.first, self.first_missed), (self.second, self.second_missed))
        one, other = (f"{format_number(mean, decimals, missing)}{f' ({n} missed)' if n else ''}" for mean, n in values)
        return one, other

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is not replaced."""
        return {
            "class": self.class_name,
            "n": self.n,
            "first": self.first,
            "second": self.second,
            "first_missed": self.first_missed,
            "second_missed": self.second_missed,
            "first_false": self.first_false,
            "second_false": self.second_false,
            "first_better": self.first_better,
            "second_better": self.second_better,
            "median_difference": self.median_difference,
            "p": self.p,
            "signed_ranks": self.signed_ranks,
        }


@dataclass(frozen=True)
class ComparableScores:
    """Scores of two models that can be compared.

    Attributes
    ----------
    first, second : dict. Scores by case, of the cases of both and the names that both score.
    left_out : tuple of str. Names that count for the mean of one model only, so for neither here.
    """

    first: dict[str, SubjectScore]
    second: dict[str, SubjectScore]
    left_out: tuple[str, ...]


def comparable(first: Mapping[str, SubjectScore], second: Mapping[str, SubjectScore]) -> ComparableScores:
    """What of the scores of two models, by case, can be compared."""
    cases = [id for id in first if id in second]
    known, counted = (
        [dict.fromkeys(name for id in cases for name in names(scores[id])) for scores in (first, second)]
        for names in (lambda score: score.dice, lambda score: score.counted)
    )
    shared = [name for name in known[0] if name in known[1]]
    in_mean = tuple(name for name in counted[0] if name in counted[1])
    left_out = tuple(name for name in {**counted[0], **counted[1]} if name not in in_mean)

    def restricted(scores: Mapping[str, SubjectScore]) -> dict[str, SubjectScore]:
        return {
            id: replace(s, dice={n: v for n, v in s.dice.items() if n in shared}, in_mean=in_mean)
            for id, s in ((id, scores[id]) for id in cases)
        }

    return ComparableScores(restricted(first), restricted(second), left_out)


def compare_scores(
    first: Mapping[str, SubjectScore], second: Mapping[str, SubjectScore], measure: Measure
) -> list[PairedResult]:
    """Compare two models by a measure: over all classes, then for each class that both score.

    Parameters
    ----------
    first, second : mapping. Scores by case of each model; cases that only one has are left out.
    measure : Measure. What is compared.
    """
    found = comparable(first, second)
    classes = dict.fromkeys(name for score in found.first.values() for name in score.dice)
    results = []
    for name in (None, *classes):
        pairs = [(measure.value(found.first[id], name), measure.value(found.second[id], name)) for id in found.first]
        results.append(_paired(name or ALL_CLASSES, pairs, measure))
    return results


def _paired(class_name: str, pairs: Sequence[tuple[float, float]], measure: Measure) -> PairedResult:
    false = [sum(not math.isnan(pair[n]) and math.isnan(pair[1 - n]) for pair in pairs) for n in (0, 1)]
    pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
    badness = [(measure.badness(a), measure.badness(b)) for a, b in pairs]
    second_better, first_better = sum(a > b for a, b in badness), sum(a < b for a, b in badness)
    differences = [0.0 if a == b else b - a for a, b in pairs]  # two missed structures are equally far
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    p, signed_ranks = _wilcoxon([0.0 if a == b else a - b for a, b in badness])
    return PairedResult(
        class_name,
        n=len(pairs),
        first=_mean(first),
        second=_mean(second),
        first_missed=sum(map(math.isinf, first)),
        second_missed=sum(map(math.isinf, second)),
        first_false=false[0],
        second_false=false[1],
        first_better=first_better,
        second_better=second_better,
        median_difference=median(differences) if differences else math.nan,
        p=p,
        signed_ranks=signed_ranks,
    )


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _wilcoxon(differences: Sequence[float]) -> tuple[float, float]:
    """Two-sided p of Wilcoxon's signed-rank test, NaN without a difference, and the sum of the signed ranks; infinite
    differences have the highest ranks."""
    nonzero = np.array([d for d in differences if d])
    if not nonzero.size:
        return math.nan, 0.0
    from scipy.stats import rankdata, wilcoxon

    finite = np.abs(nonzero[np.isfinite(nonzero)])
    beyond = 2 * float(finite.max(initial=1.0))
    clipped = np.clip(nonzero, -beyond, beyond)
    return float(wilcoxon(clipped).pvalue), float(rankdata(np.abs(clipped)) @ np.sign(clipped))


def format_p(p: float) -> str:
    """A p value as text."""
    return "below 0.001" if p < 0.001 else format_number(p, 3)
