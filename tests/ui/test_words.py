"""Numbers and user text in words."""

from __future__ import annotations

import math

import pytest

from ui.shared import formatting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (45.4, "45 s"), (89, "89 s"), (95, "95 s"), (120, "2 min"),
     (180, "3 min"), (5400, "1 h 30 min"), (7500, "2 h 05 min"),
     (3 * 86400 + 4 * 3600, "3 d 4 h"), (None, "–"), (math.nan, "–"), (-1, "–")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.9124, "0.912"), (1.0, "1.000"), (0.0, "0.000"), (None, "–"), (math.nan, "–")]
)
def test_dice_has_three_digits_or_is_a_dash(value: float | None, text: str) -> None:
    assert formatting.dice(value) == text


@pytest.mark.parametrize(
    ("before", "text"), [(5, "just now"), (300, "5 min ago"), (7200, "2 h ago"), (3 * 86400, "3 days ago")]
)
def test_ago(before: float, text: str) -> None:
    assert formatting.ago(1e9 - before, now=1e9) == text


def test_sizes_counts_memory() -> None:
    assert formatting.size((144, 192, 256)) == "144 × 192 × 256"
    assert formatting.size((0.75, 1.0, 1.1999)) == "0.75 × 1 × 1.2"
    assert (formatting.count(1, "subject"), formatting.count(1200, "subject")) == ("1 subject", "1,200 subjects")
    assert (formatting.memory(380e6), formatting.memory(2.14e9)) == ("380 MB", "2.1 GB")


@pytest.mark.parametrize(
    "text", ["**bold**", "[link](http://evil.org)", "<b>x</b>", ":material/home:", "$x$", "`code`", "a_b"]
)
def test_user_text_keeps_no_formatting(text: str) -> None:
    shown = formatting.plain(text)
    special = set("\\`*_{}[]()#+-.!|<>~$:^=&")
    characters = iter(shown)
    for character in characters:  # every special character comes after a backslash
        if character == "\\":
            next(characters)
        else:
            assert character not in special
    assert shown.replace("\\", "") == text
