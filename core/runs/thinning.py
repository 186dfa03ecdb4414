"""Curves with fewer points that look the same: of each stretch the first, least, greatest and last point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

Point = TypeVar("Point")
PER_STRETCH = 4


def thinned(points: Sequence[Point], most: int, value: Callable[[Point], float]) -> list[Point]:
    """At most ``most`` of the points, in order; all of them where they are no more.

    A line through them covers the same pixels as one through all, as long as a stretch is no wider than a pixel: spikes
    stay, where a mean or every n-th point would lose them.

    Parameters
    ----------
    most : at least 4.
    value : of a point; those that are no number are left out where a stretch has others.
    """
    if most < PER_STRETCH:
        raise ValueError(f"most: expected at least {PER_STRETCH}, got {most}")
    if len(points) <= most:
        return list(points)
    stretches = most // PER_STRETCH
    kept: list[Point] = []
    for n in range(stretches):
        first, end = n * len(points) // stretches, (n + 1) * len(points) // stretches
        numbers = [i for i in range(first, end) if not math.isnan(value(points[i]))] or [first]
        low = min(numbers, key=lambda i: value(points[i]))
        high = max(numbers, key=lambda i: value(points[i]))
        kept += [points[i] for i in sorted({numbers[0], low, high, numbers[-1]})]
    return kept
