"""Bland-Altman: bias and limits of agreement, by hand."""

from __future__ import annotations

import math

import pytest

from core.evaluation.agreement import agreement, volumes_of
from core.evaluation.metrics import SubjectScore


def test_limits_are_the_bias_and_twice_the_spread() -> None:
    found = agreement([10.0, 20.0, 30.0], [11.0, 23.0, 32.0])
    assert (found.n, found.bias) == (3, 2.0)
    assert (found.lower, found.upper) == pytest.approx((2 - 1.96, 2 + 1.96)), "differences 1, 3, 2: deviation 1"


def test_one_case_has_a_bias_and_no_limits_and_none_has_neither() -> None:
    one, none = agreement([1.0], [3.0]), agreement([], [])
    assert one.bias == 2 and math.isnan(one.lower) and none.n == 0 and math.isnan(none.bias)


def test_cases_with_the_class_in_neither_segmentation_are_left_out() -> None:
    def score(truth: float, prediction: float) -> SubjectScore:
        return SubjectScore({}, {}, {}, (), {"cyst": {"truth": truth, "prediction": prediction}})

    scores = {"both": score(2.0, 3.0), "neither": score(0.0, 0.0), "false": score(0.0, 1.0), "missed": score(1.0, 0.0)}
    found = volumes_of(scores, "cyst")
    assert found == {"both": (2.0, 3.0), "false": (0.0, 1.0), "missed": (1.0, 0.0)}
    assert volumes_of(scores, "another class") == {}
