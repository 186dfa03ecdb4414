"""Measures of cases: one number per case, missed structures first, outliers."""

from __future__ import annotations

import dataclasses
import math

import pytest

from core.evaluation.case_measures import DICE, MEASURES, Measure, distribution
from core.evaluation.metrics import SubjectScore

BY_KEY = {measure.key: measure for measure in MEASURES}
SCORE = SubjectScore(
    dice={"a": 0.5, "b": 0.9, "absent": math.nan, "gone": 0.0},
    hd95_mm={"a": 4.0, "b": 2.0, "absent": math.nan, "gone": math.nan},
    asd_mm={"a": 1.0, "b": 0.5, "absent": math.nan, "gone": math.nan},
    missed=("gone",),
    volume_ml={
        "a": {"truth": 2.0, "prediction": 1.0},
        "b": {"truth": 2.0, "prediction": 3.0},
        "absent": {"truth": 0.0, "prediction": 0.0},
        "gone": {"truth": 0.0, "prediction": 1.0},
    },
    surface_dice={"a": {"1": 0.6}, "b": {"1": 0.8}, "absent": {"1": math.nan}, "gone": {"1": 0.0}},
)


@pytest.mark.parametrize(
    ("key", "of_a", "mean"),
    [
        ("dice", 0.5, (0.5 + 0.9 + 0) / 3), ("surface_dice-1", 0.6, (0.6 + 0.8 + 0) / 3), ("hd95_mm", 4.0, math.inf),
        ("asd_mm", 1.0, math.inf), ("volume", -50.0, math.inf),
    ],
)  # fmt: skip
def test_value_of_a_class_and_mean_over_the_scored_classes(key: str, of_a: float, mean: float) -> None:
    measure = BY_KEY[key]
    assert measure.value(SCORE, "a") == pytest.approx(of_a)
    assert measure.value(SCORE) == pytest.approx(mean)
    assert math.isnan(measure.value(SCORE, "absent")), "a class in neither segmentation is not scored"
    assert math.isnan(measure.value(SCORE, "unknown"))


def test_differences_of_volumes_do_not_cancel_in_the_mean() -> None:
    score = SubjectScore({"a": 0.5, "b": 0.5}, {}, {}, (), {n: SCORE.volume_ml[n] for n in ("a", "b")})
    assert BY_KEY["volume"].value(score) == pytest.approx(50.0)
    assert BY_KEY["volume"].badness(-50) > BY_KEY["volume"].badness(20)


def test_score_of_an_earlier_version_has_no_surface_dice() -> None:
    old = SubjectScore({"a": 0.5}, {"a": 1.0}, {"a": 1.0}, (), {"a": {"truth": 1.0, "prediction": 1.0}})
    assert math.isnan(BY_KEY["surface_dice-1"].value(old))
    assert all(math.isfinite(m.value(old)) for m in MEASURES if m.kind != "surface_dice")


def test_missed_structure_is_worse_than_any_distance() -> None:
    hd95 = BY_KEY["hd95_mm"]
    assert hd95.badness(hd95.value(SCORE, "gone")) > hd95.badness(1000.0) > hd95.badness(1.0)
    assert DICE.badness(0.2) > DICE.badness(0.9)


@pytest.mark.parametrize(
    ("measure", "values", "outliers"),
    [
        (DICE, [0.9, 0.91, 0.92, 0.93, 0.2], {"4"}),  # only in the worse direction
        (DICE, [0.5, 0.51, 0.52, 0.53, 1.0], set()),
        (BY_KEY["hd95_mm"], [1.0, 1.1, 1.2, 1.3, 9.0, math.inf], {"4", "5"}),
        (BY_KEY["volume"], [1.0, -2.0, 2.0, -1.0, -80.0, math.nan], {"4"}),
        (DICE, [0.9, 0.9, 0.9, 0.1], set()),  # too few
    ],
)
def test_outliers_lie_beyond_the_fence_on_the_worse_side(
    measure: Measure, values: list[float], outliers: set[str]
) -> None:
    found = distribution({str(n): value for n, value in enumerate(values)}, measure)
    assert found.outliers == outliers


def test_quartiles_are_of_the_finite_values() -> None:
    found = distribution({"a": 1.0, "b": 2.0, "c": 3.0, "d": math.inf, "e": math.nan}, BY_KEY["hd95_mm"])
    assert (found.lower, found.median, found.upper) == (1.5, 2.0, 2.5)
    assert math.isnan(distribution({"a": math.nan}, DICE).median)


def test_mean_of_a_network_of_regions_is_that_of_its_regions() -> None:
    score = dataclasses.replace(SCORE, in_mean=("b", "gone"))
    assert DICE.value(score) == pytest.approx(score.mean_dice) == pytest.approx(0.45)
    assert BY_KEY["surface_dice-1"].value(score) == pytest.approx(0.4)
