"""Two models on the same cases: wins, the test of scipy, and what few cases can show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from core.evaluation.case_measures import DICE, MEASURES
from core.evaluation.metrics import SubjectScore
from core.evaluation.paired_comparison import comparable, compare_scores

HD95 = next(measure for measure in MEASURES if measure.kind == "hd95_mm")


def scores(dice: list[float], hd95_mm: list[float] | None = None) -> dict[str, SubjectScore]:
    """Scores of a class by case; a negative distance is that of a missed structure."""
    found = {}
    for n, value in enumerate(dice):
        distance = 1.0 if hd95_mm is None else hd95_mm[n]
        missed = ("one",) if distance < 0 else ()
        found[f"case {n}"] = SubjectScore({"one": value}, {"one": distance}, {"one": 1.0}, missed, {})
    return found


def test_table_has_the_wins_the_medians_and_the_p_of_scipy() -> None:
    first = [0.80, 0.71, 0.65, 0.90, 0.77, 0.84, 0.60, 0.70]
    second = [0.85, 0.70, 0.75, 0.92, 0.83, 0.88, 0.72, 0.70]
    over_classes, one = compare_scores(scores(first), {**scores(second), "only here": scores([0.1])["case 0"]}, DICE)
    assert (over_classes.class_name, one.class_name, one.n) == ("all classes", "one", 8)
    assert (one.first_better, one.second_better, one.differing) == (1, 6, 7)
    assert one.first == pytest.approx(np.mean(first)) and one.second == pytest.approx(np.mean(second))
    assert one.median_difference == pytest.approx(np.median(np.subtract(second, first)))
    assert one.p == pytest.approx(wilcoxon(np.subtract(first, second)[:7]).pvalue)
    assert one.verdict(("A", "B")) == f"B is better (p = {one.p:.3f})"
    assert compare_scores(scores(second), scores(first), DICE)[1].verdict(("A", "B")).startswith("A is better")


def test_few_cases_are_said_to_be_too_few_and_equal_ones_equal() -> None:
    few = compare_scores(scores([0.1, 0.2, 0.3]), scores([0.9, 0.9, 0.9]), DICE)[1]
    assert few.smallest_p == 0.25 and "too few for a test" in few.verdict(("A", "B"))
    same = compare_scores(scores([0.1, 0.2]), scores([0.1, 0.2]), DICE)[1]
    assert math.isnan(same.p) and same.verdict(("A", "B")) == "equal in all 2 cases"
    assert compare_scores({}, {}, DICE)[0].verdict(("A", "B")) == "no case has a value of both"


def test_missed_structures_are_the_worst_and_equally_far() -> None:
    """A smaller distance is better; an infinite one of both is no difference."""
    first, second = scores([0.5] * 3, [2.0, -1, -1]), scores([0.5] * 3, [-1, -1, 3.0])
    found = compare_scores(first, second, HD95)[1]
    assert (found.n, found.first_better, found.second_better) == (3, 1, 1)
    assert found.first == 2.0 and found.second == 3.0 and found.p == 1.0
    assert (found.first_missed, found.second_missed) == (2, 2), "means without misses say so"
    assert found.means(1) == ("2.0 (2 missed)", "3.0 (2 missed)")


def test_cases_in_which_only_one_model_invents_a_class_are_counted_against_it() -> None:
    """A class that the reference lacks: the model that finds none, too, has no Dice, and the other one 0."""
    first, second = scores([0.9, math.nan, math.nan, 0.0]), scores([0.8, 0.0, math.nan, math.nan])
    found = compare_scores(first, second, DICE)[1]
    assert (found.n, found.first_false, found.second_false) == (1, 1, 1)
    assert found.left_out(("A", "B")) == (
        "one: left out, 1 case in which A finds it, but neither the other model nor the reference and 1 case in which "
        "B finds it, but neither the other model nor the reference."
    )
    assert compare_scores(scores([0.9]), scores([0.8]), DICE)[1].left_out(("A", "B")) == ""


def test_the_better_model_is_that_of_the_ranks_not_of_the_number_of_cases() -> None:
    """33 cases slightly better, 29 clearly worse: the test is significant in favour of the other one."""
    first = [0.8 + 0.0001 * (n + 1) for n in range(33)] + [0.5] * 29
    second = [0.8] * 33 + [0.6 + 0.01 * n for n in range(29)]
    found = compare_scores(scores(first), scores(second), DICE)[1]
    assert found.first_better > found.second_better and found.p < 0.01 and found.signed_ranks > 0
    assert found.verdict(("A", "B")) == f"B is better (p = {found.p:.3f}): in fewer cases, by larger differences"
    swapped = compare_scores(scores(second), scores(first), DICE)[1]
    assert swapped.verdict(("A", "B")).startswith("A is better") and swapped.signed_ranks == -found.signed_ranks


def test_the_mean_over_classes_is_over_the_classes_of_both_models() -> None:
    """Two models that are equal in the class that both score are equal, whatever else one of them scores."""

    def of(**dice: float) -> SubjectScore:
        return SubjectScore(dice, dict.fromkeys(dice, 1.0), dict.fromkeys(dice, 1.0), (), {}, {}, tuple(dice))

    first, second = {"a": of(vein=0.2, liver=0.9)}, {"a": of(liver=0.9, tumour=0.1)}
    over_classes, liver = compare_scores(first, second, DICE)
    assert over_classes.class_name == "all classes" and (over_classes.first, over_classes.second) == (0.9, 0.9)
    assert liver.class_name == "liver"
    assert comparable(first, second).left_out == ("vein", "tumour")
    nothing_shared = compare_scores({"a": of(vein=0.2)}, {"a": of(tumour=0.1)}, DICE)
    assert [r.n for r in nothing_shared] == [0]
