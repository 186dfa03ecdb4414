"""Scores, durations and sizes as text."""

from __future__ import annotations

import math

import pytest

from core.formatting import format_bytes, format_clock, format_duration, format_score


@pytest.mark.parametrize(
    ("value", "text"), [(0.9123, "0.912"), (0.0, "0.000"), (1, "1.000"), (None, "–"), (math.nan, "–"), (math.inf, "–")]
)
def test_format_score(value: float | None, text: str) -> None:
    assert format_score(value) == text


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
