"""Filling of polygons on a grid of pixels, by the even-odd rule.

A pixel is inside where its centre is; a centre on the left or upper edge counts, one on the right or lower edge does
not, so that polygons which share an edge share no pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FilledPolygon:
    """The pixels of a polygon in a part of the grid.

    Attributes
    ----------
    first : tuple of int. Row and column of the first pixel of the part.
    inside : ndarray, bool, shape (row, column).
    clipped : bool. Whether the polygon leaves the grid by more than half a pixel.
    """

    first: tuple[int, int]
    inside: np.ndarray
    clipped: bool

    @property
    def part(self) -> tuple[slice, slice]:
        """Index of the part in the grid."""
        (row, column), (rows, columns) = self.first, self.inside.shape
        return slice(row, row + rows), slice(column, column + columns)

    def on(self, shape: tuple[int, int]) -> np.ndarray:
        """The pixels in the whole grid, bool, shape (row, column)."""
        mask = np.zeros(shape, bool)
        mask[self.part] = self.inside
        return mask


def fill_polygon(points: np.ndarray, shape: tuple[int, int]) -> FilledPolygon:
    """Fill a polygon.

    Parameters
    ----------
    points : ndarray, float64, shape (n, 2). Column and row of its corners, in pixels; pixel centres are whole numbers.
        The last corner is joined to the first. Its direction has no influence.
    shape : tuple of int. Rows and columns of the grid.
    """
    rows, columns = shape
    low, high = points.min(axis=0), points.max(axis=0)
    clipped = bool((low < -1).any() or high[0] > columns or high[1] > rows)
    top, bottom = max(0, int(np.ceil(low[1]))), min(rows, int(np.ceil(high[1])))
    left, right = max(0, int(np.ceil(low[0]))), min(columns, int(np.ceil(high[0])))
    if bottom <= top or right <= left:
        return FilledPolygon((max(0, min(top, rows)), max(0, min(left, columns))), np.zeros((0, 0), bool), clipped)
    start, end = points, np.roll(points, -1, axis=0)
    upper = np.where((start[:, 1] <= end[:, 1])[:, None], start, end)
    lower = np.where((start[:, 1] <= end[:, 1])[:, None], end, start)
    # Rows whose centre line an edge crosses, its upper end included and its lower one not.
    first = np.clip(np.ceil(upper[:, 1]), top, bottom).astype(int)
    counts = np.clip(np.ceil(lower[:, 1]), top, bottom).astype(int) - first
    edges = np.repeat(np.arange(len(points)), counts)
    row = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    share = (row - upper[edges, 1]) / (lower[edges, 1] - upper[edges, 1])
    crossing = upper[edges, 0] + share * (lower[edges, 0] - upper[edges, 0])
    column = np.clip(np.ceil(crossing), left, right).astype(int) - left
    crossings = np.zeros((bottom - top, right - left + 1), np.int32)
    np.add.at(crossings, (row - top, column), 1)
    return FilledPolygon((top, left), np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1, clipped)
