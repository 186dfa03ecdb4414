"""Filling of polygons, against the definition of the even-odd rule at every pixel centre."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging.contour_fill import fill_polygon
from tests.support.dicom_labels import outline

SHAPE = (10, 11)


def inside_by_definition(points: np.ndarray) -> np.ndarray:
    """Whether an odd number of edges lies to the left of each pixel centre, or on it."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    inside = np.zeros(SHAPE, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crosses = (rows >= min(y0, y1)) & (rows < max(y0, y1))
        if y0 != y1:
            inside ^= crosses & (columns >= x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    return inside


@pytest.mark.parametrize("on_pixels", [False, True])
def test_pixels_are_inside_by_the_even_odd_rule(on_pixels: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        points = rng.uniform(-4, 14, (int(rng.integers(3, 9)), 2))
        points = np.round(points) if on_pixels else points
        np.testing.assert_array_equal(fill_polygon(points, SHAPE).on(SHAPE), inside_by_definition(points))
        np.testing.assert_array_equal(fill_polygon(points[::-1], SHAPE).on(SHAPE), inside_by_definition(points))


def test_the_outline_of_pixels_is_filled_to_the_same_pixels() -> None:
    mask = np.random.default_rng(1).random((11, 10)) > 0.5
    filled = np.zeros(SHAPE, bool)
    for polygon in outline(mask):
        filled ^= fill_polygon(polygon, SHAPE).on(SHAPE)
    np.testing.assert_array_equal(filled, mask.T)


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    left = fill_polygon(np.array([[1, 1], [4, 1], [4, 6], [1, 6]], float), SHAPE).on(SHAPE)
    right = fill_polygon(np.array([[4, 1], [8, 1], [8, 6], [4, 6]], float), SHAPE).on(SHAPE)
    assert not (left & right).any()
    assert (int(left.sum()), int(right.sum())) == (15, 20)


@pytest.mark.parametrize(
    ("points", "clipped"),
    [
        ([[-0.5, -0.5], [10.5, -0.5], [10.5, 9.5]], False), ([[-3, 2], [5, 2], [5, 8]], True),
        ([[20, 20], [30, 20], [25, 30]], True),
    ],
)  # fmt: skip
def test_a_polygon_that_leaves_the_grid_is_cut_and_says_so(points: list[list[float]], clipped: bool) -> None:
    filled = fill_polygon(np.array(points, float), SHAPE)
    assert filled.clipped == clipped
    np.testing.assert_array_equal(filled.on(SHAPE), inside_by_definition(np.array(points, float)))
