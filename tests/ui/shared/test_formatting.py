"""Times, sizes, counts and user text."""

from __future__ import annotations

import pytest

from ui.shared import formatting


@pytest.mark.parametrize(
    ("before", "text"), [(5, "just now"), (300, "5 min ago"), (7200, "2 h ago"), (3 * 86400, "3 days ago")]
)
def test_ago_rounds_to_the_largest_unit(before: float, text: str) -> None:
    assert formatting.ago(1e9 - before, now_s=1e9) == text


def test_sizes_and_counts_are_readable() -> None:
    assert formatting.size((144, 192, 256)) == "144 × 192 × 256"
    assert formatting.size((0.75, 1.0, 1.1999)) == "0.75 × 1 × 1.2"
    assert (formatting.count(1, "subject"), formatting.count(1200, "subject")) == ("1 subject", "1,200 subjects")


@pytest.mark.parametrize(
    "text", ["**bold**", "[link](http://evil.org)", "<b>x</b>", ":material/home:", "$x$", "`code`", "a_b"]
)
def test_user_text_is_escaped_for_markdown(text: str) -> None:
    shown = formatting.plain(text)
    special = set("\\`*_{}[]()#+-.!|<>~$:^=&")
    characters = iter(shown)
    for character in characters:  # a backslash precedes every special character
        if character == "\\":
            next(characters)
        else:
            assert character not in special
    assert shown.replace("\\", "") == text
