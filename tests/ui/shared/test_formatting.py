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


def test_times_are_in_the_time_zone_of_the_browser_which_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    moment_s = 1_795_885_500.0  # 28 Nov 2026, 17:05 UTC
    for zone, text in (
        ("Europe/Berlin", "28 Nov 2026, 18:05, Europe/Berlin (UTC+1)"),
        ("Asia/Kolkata", "28 Nov 2026, 22:35, Asia/Kolkata (UTC+5:30)"),
        (None, "28 Nov 2026, 17:05, UTC"),
        ("../nowhere", "28 Nov 2026, 17:05, UTC"),
    ):
        monkeypatch.setattr("streamlit.runtime.context.ContextProxy.timezone", zone)
        assert formatting.moment(moment_s) == text
    assert formatting.moment(None) == "–"


def test_full_stop_is_added_once() -> None:
    assert formatting.with_full_stop("it waits") == "it waits."
    for text in ("", "it waits.", "why?", "so:"):
        assert formatting.with_full_stop(text) == text
