"""Numbers and states in words: Dice with three digits, human times, user text as it is."""

from __future__ import annotations

import time
from collections.abc import Iterable

ACTIVE = ("starting", "running", "stopping")
WAITING_OR_ACTIVE = ("queued", *ACTIVE)


def ago(moment: float | None, now: float | None = None) -> str:
    """``just now``, ``5 min ago``, ``3 h ago``; the day for what is older than a week. ``moment`` in Unix seconds."""
    if not moment:
        return "–"
    seconds = (time.time() if now is None else now) - moment
    if seconds < 45:
        return "just now"
    if seconds < 90 * 60:
        return f"{max(1, round(seconds / 60))} min ago"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)} h ago"
    if seconds < 7 * 86400:
        return f"{round(seconds / 86400)} days ago"
    return time.strftime("%d %b %Y", time.localtime(moment))


def size(values: Iterable[float]) -> str:
    """``144 × 192 × 256``, ``0.8 × 0.8 × 1.2``."""
    return " × ".join(f"{v:g}" if isinstance(v, int) else f"{v:.3g}" for v in values)


def count(number: int | float, word: str) -> str:
    """``1 subject``, ``1,234 subjects``."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def sentence(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def plain(text: str) -> str:
    """User text for Markdown: shown as it is, nothing in it is formatting, a link or an icon."""
    for character in "\\`*_{}[]()#+-.!|<>~$:^=&":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
