"""Bland-Altman: bias and limits of agreement, by hand."""

from __future__ import annotations

import math

import pytest

from core.evaluation.agreement import agreement


def test_limits_are_the_bias_and_twice_the_spread() -> None:
    found = agreement([10.0, 20.0, 30.0], [11.0, 23.0, 32.0])
    assert (found.n, found.bias) == (3, 2.0)
    assert (found.lower, found.upper) == pytest.approx((2 - 1.96, 2 + 1.96)), "differences 1, 3, 2: deviation 1"


def test_one_case_has_a_bias_and_no_limits_and_none_has_neither() -> None:
    one, none = agreement([1.0], [3.0]), agreement([], [])
    assert one.bias == 2 and math.isnan(one.lower) and none.n == 0 and math.isnan(none.bias)
