"""Times, sizes, counts and user text for pages; plain numbers are formatted by :mod:`core.formatting`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from core.formatting import format_count, format_size
from core.runs import ACTIVE, RunSummary

WAITING_OR_ACTIVE = ("queued", *ACTIVE)


def ago(moment_s: float | None, now_s: float | None = None) -> str:
    """A time before now: ``just now``, ``5 min ago``, ``3 h ago``; a date if it is more than a week ago.

    Parameters
    ----------
    moment_s, now_s : float, optional. Unix time in seconds; ``now_s`` is the current time by default.
    """
    if not moment_s:
        return "–"
    seconds = (time.time() if now_s is None else now_s) - moment_s
    if seconds < 45:
        return "just now"
    if seconds < 90 * 60:
        return f"{max(1, round(seconds / 60))} min ago"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)} h ago"
    if seconds < 7 * 86400:
        return f"{round(seconds / 86400)} days ago"
    return f"{datetime.fromtimestamp(moment_s, time_zone()):%d %b %Y}"


def time_zone() -> tzinfo:
    """The time zone of the person's browser; UTC where it is not known. All times on pages are in it."""
    try:
        return ZoneInfo(st.context.timezone or "")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def zone_name(moment_s: float | None = None) -> str:
    """The name of :func:`time_zone`, with its distance from UTC then: ``Europe/Berlin (UTC+1)``.

    Parameters
    ----------
    moment_s : float, optional. Unix time in seconds; now by default.
    """
    zone = time_zone()
    offset = datetime.fromtimestamp(time.time() if moment_s is None else moment_s, zone).utcoffset()
    minutes = round(offset.total_seconds() / 60) if offset else 0
    hours, rest = divmod(abs(minutes), 60)
    if not minutes:
        return "UTC" if zone is UTC or str(zone) == "UTC" else f"{zone} (UTC)"
    return f"{zone} (UTC{'-' if minutes < 0 else '+'}{hours}{f':{rest:02d}' if rest else ''})"


def moment(moment_s: float | None) -> str:
    """A date and time in :func:`time_zone`, which is named: ``28 Nov 2026, 17:05, Europe/Berlin (UTC+1)``."""
    if not moment_s:
        return "–"
    return f"{datetime.fromtimestamp(moment_s, time_zone()):%d %b %Y, %H:%M}, {zone_name(moment_s)}"


def size(values: Iterable[float]) -> str:
    """A size along several axes: ``144 × 192 × 256``, ``0.8 × 0.8 × 1.2``."""
    return format_size(values, " × ")


def count(number: int | float, noun: str) -> str:
    """A number with its noun: ``1 subject``, ``1,234 subjects``."""
    return format_count(number, noun)


def total_epochs(run: RunSummary) -> str:
    """The number of epochs of a run: ``40``; ``~40`` while it trains under a time budget, where it is an estimate."""
    estimated = run.state.active and run.config.run.minutes
    return f"{'~' if estimated else ''}{run.state.epochs}"


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def with_full_stop(text: str) -> str:
    """The text with a full stop, where it does not end like a sentence."""
    return text if not text or text[-1] in ".!?:…" else f"{text}."


def plain(text: str) -> str:
    """User text escaped for Markdown: no formatting, links or icons."""
    for character in "\\`*_{}[]()#+-.!|<>~$:^=&":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
