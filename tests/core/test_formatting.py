"""Scores, durations and sizes as text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.formatting import (
    format_bytes,
    format_clock,
    format_count,
    format_duration,
    format_measurement,
    format_number,
    format_score,
    format_size,
    least_decimals,
)


@pytest.mark.parametrize(
    ("value", "text"), [(0.9123, "0.912"), (0.0, "0.000"), (1, "1.000"), (None, "–"), (math.nan, "–"), (math.inf, "–")]
)
def test_format_score(value: float | None, text: str) -> None:
    assert format_score(value) == text


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0, 2, "0.00"), (12.346, 2, "12.35"), (0.00625, 2, "0.006"), (0.004999, 2, "0.005"), (0.0099, 2, "0.010"),
     (0.01, 2, "0.01"), (0.00002, 2, "0.00002"), (2e-9, 2, "2e-09"), (-0.003, 1, "-0.003"), (0.33, 0, "0.3"),
     (0.0, 0, "0"), (99.6, 0, "100"), (None, 2, "–"), (math.nan, 2, "–"), (math.inf, 2, "–")],
)  # fmt: skip
def test_number_that_is_not_zero_never_appears_as_zero(value: float | None, decimals: int, text: str) -> None:
    assert format_number(value, decimals) == text


def test_small_score_and_large_number() -> None:
    assert format_score(0.0004) == "0.0004" and format_score(0.0016) == "0.002"
    assert format_number(1234.56, 1, grouped=True) == "1,234.6"
    assert format_number(None, 1, missing="-") == "-"


def test_decimals_of_a_column_show_its_smallest_share() -> None:
    assert least_decimals([0, 12.5, 0.00625], 2) == 3 and least_decimals([0, 12.5], 2) == 2
    assert least_decimals([0.00002, 0.3, math.nan], 2) == 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (95.4, "95 s"), (119.4, "119 s"), (120, "2 min"), (89 * 60, "89 min"), (125 * 60, "2 h 05 min"),
     (76 * 3600, "3 d 4 h"), (None, "–"), (math.inf, "–"), (-1, "–")],
)  # fmt: skip
def test_format_duration(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (123, "2:03"), (3723.4, "1:02:03"), (3599.6, "1:00:00"), (None, "–")]
)
def test_format_clock(seconds: float | None, text: str) -> None:
    assert format_clock(seconds) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (40_000, "40 kB"), (1_437_000, "1.4 MB"), (9_949_999, "9.9 MB"),
     (9_950_000, "10 MB"), (380e6, "380 MB"), (999.6e6, "1.0 GB"), (2.14e9, "2.1 GB"), (8 * 2**30, "8.6 GB")],
)  # fmt: skip
def test_format_bytes(nbytes: float, text: str) -> None:
    assert format_bytes(nbytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9123, "0.912"), (1e-4, "0.000100"), (0.001234, "0.00123"), (2.5e-5, "2.50e-05"), (0.0, "0.000"),
     (1234.56, "1,234.6"), (-0.05, "-0.0500"), (None, "–"), (math.nan, "–")],
)  # fmt: skip
def test_measurement_has_three_significant_digits(value: float | None, text: str) -> None:
    assert format_measurement(value) == text


def test_count_has_its_noun_in_the_singular_or_plural() -> None:
    assert [format_count(n, "run") for n in (0, 1, 2, 1200)] == ["0 runs", "1 run", "2 runs", "1,200 runs"]


def test_size_has_whole_numbers_in_full_and_others_with_three_digits() -> None:
    assert format_size((144, 192, 1000000)) == "144x192x1000000"
    assert format_size(np.array([1234, 5])) == "1234x5" and format_size(np.array([0.8, 1.2549])) == "0.8x1.25"
    assert format_size((0.8, 1, 1.0), " × ") == "0.8 × 1 × 1"
