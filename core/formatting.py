"""Numbers, durations, sizes and lists as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

MISSING = "–"


def format_score(value: float | None, missing: str = MISSING) -> str:
    """A loss or a score between 0 and 1 with three decimals: ``0.912``."""
    return missing if value is None or not math.isfinite(value) else f"{value:.3f}"


def format_duration(seconds: float | None, missing: str = MISSING) -> str:
    """A duration rounded to two units at most: ``95 s``, ``3 min``, ``2 h 05 min``, ``3 d 4 h``."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return missing
    s = round(seconds)
    if s < 120:
        return f"{s} s"
    minutes = round(s / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def format_clock(seconds: float | None, missing: str = MISSING) -> str:
    """A duration to the second, for logs and progress bars: ``2:03``, ``1:02:03``."""
    if seconds is None or not math.isfinite(seconds):
        return missing
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_bytes(nbytes: float) -> str:
    """A size in decimal units: ``512 bytes``, ``40 kB``, ``1.4 MB``, ``380 MB``, ``2.1 GB``."""
    if nbytes < 1e3:
        return f"{nbytes:.0f} bytes"
    for unit, scale in (("kB", 1e3), ("MB", 1e6)):
        if nbytes < 999.5 * scale:
            value = nbytes / scale
            return f"{value:.0f} {unit}" if value >= 9.95 or unit == "kB" else f"{value:.1f} {unit}"
    return f"{nbytes / 1e9:.1f} GB"


def format_list(names: Sequence[str], limit: int = 8) -> str:
    """The first names of a list: ``a, b, c and 5 more``."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
