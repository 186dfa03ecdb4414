"""Numbers, durations, sizes and lists as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MISSING = "–"
SMALLEST = 1e-6  # smaller numbers are written with an exponent


def format_number(value: float | None, decimals: int, missing: str = MISSING, grouped: bool = False) -> str:
    """A number with fixed decimals; one that is not zero never appears as zero.

    A number below the last decimal has as many decimals as its first digit needs: ``0.00625`` with two decimals is
    ``0.006``. Below ``SMALLEST`` there is an exponent: ``2e-09``.

    Parameters
    ----------
    value : float or None.
    decimals : int. Number of decimals.
    missing : str. Text for ``None``, NaN and infinity.
    grouped : bool. Whether thousands are separated: ``1,234.5``.
    """
    if value is None or not math.isfinite(value):
        return missing
    if 0 < abs(value) < min(SMALLEST, 10.0**-decimals):
        return f"{value:.0e}"
    decimals = least_decimals([value], decimals)
    return f"{value:,.{decimals}f}" if grouped else f"{value:.{decimals}f}"


def least_decimals(values: Iterable[float], decimals: int) -> int:
    """The least number of decimals, but no fewer than given, that show the first digit of every value but zeros."""
    hidden = [abs(value) for value in values if value and math.isfinite(value) and abs(value) < 10.0**-decimals]
    return -math.floor(math.log10(min(hidden))) if hidden else decimals


def format_score(value: float | None, missing: str = MISSING) -> str:
    """A loss or a score between 0 and 1 with three decimals, a small one with more: ``0.912``, ``0.0004``."""
    return format_number(value, 3, missing)


def format_measurement(value: float | None, missing: str = MISSING) -> str:
    """A measurement of any size with three decimals, a small one with three significant digits: ``0.912``, ``0.00100``,
    ``2.00e-05``, ``1,234.5``."""
    if value is None or not math.isfinite(value):
        return missing
    size = abs(value)
    if size >= 100:
        return f"{value:,.1f}"
    if size >= 0.1 or not size:
        return f"{value:.3f}"
    return f"{value:.{2 - math.floor(math.log10(size))}f}" if size >= 1e-4 else f"{value:.2e}"


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


def format_count(number: float, noun: str) -> str:
    """A number with its noun: ``1 subject``, ``1,234 subjects``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_size(values: Iterable[float], separator: str = "x") -> str:
    """A size along several axes: ``144x192x256``, ``0.8x0.8x1.25``; numbers that are not whole by their type have three
    significant digits."""
    return separator.join(str(v) if hasattr(v, "__index__") else f"{v:.3g}" for v in values)


def format_list(names: Sequence[str], limit: int = 8) -> str:
    """The first names of a list: ``a, b, c and 5 more``."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
