"""Downsampling of curves that keeps the first, lowest, highest and last point of each interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

Point = TypeVar("Point")
POINTS_PER_INTERVAL = 4


def thinned(points: Sequence[Point], max_points: int, value: Callable[[Point], float]) -> list[Point]:
    """At most ``max_points`` of the points, in order; all of them if there are no more.

    A line through them covers the same pixels as a line through all points while an interval is no wider than a pixel.
    Spikes are kept, which a mean or every n-th point would lose.

    Parameters
    ----------
    points : sequence. Points in plotting order.
    max_points : int. At least 4.
    value : callable. Value of a point; points with value NaN are dropped from intervals that have others.
    """
    if max_points < POINTS_PER_INTERVAL:
        raise ValueError(f"max_points: expected at least {POINTS_PER_INTERVAL}, got {max_points}")
    if len(points) <= max_points:
        return list(points)
    intervals = max_points // POINTS_PER_INTERVAL
    kept: list[Point] = []
    for n in range(intervals):
        start, stop = n * len(points) // intervals, (n + 1) * len(points) // intervals
        indices = [i for i in range(start, stop) if not math.isnan(value(points[i]))] or [start]
        lowest = min(indices, key=lambda i: value(points[i]))
        highest = max(indices, key=lambda i: value(points[i]))
        kept += [points[i] for i in sorted({indices[0], lowest, highest, indices[-1]})]
    return kept
