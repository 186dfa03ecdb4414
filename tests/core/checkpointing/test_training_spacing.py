"""Voxel sizes of training beside that of an image."""

from __future__ import annotations

import pytest

from core.checkpointing.training_spacing import TrainingSpacing
from core.types import SpacingMm

ONE = TrainingSpacing.of([(1.0, 1.0, 5.0)])


def test_median_and_range_are_taken_along_each_axis() -> None:
    found = TrainingSpacing.of([(1, 2, 3), (3, 1, 3), (2, 3, 3), (1, 2, 3)])
    assert (found.median_mm, found.min_mm, found.max_mm) == ((1, 2, 3), (1, 1, 3), (3, 3, 3))
    assert TrainingSpacing.from_json(found.to_json()) == found
    assert found.text == "1 x 2 x 3 mm (1 x 1 x 3 to 3 x 3 x 3 mm)" and ONE.text == "1 x 1 x 5 mm"


@pytest.mark.parametrize(
    ("spacing_mm", "differs"),
    [((1, 1, 5), False), ((1.15, 1, 5), False), ((0.85, 1, 4.25), False), ((1.16, 1, 5), True), ((1, 0.84, 5), True),
     ((1, 1, 5.8), True), ((3, 3, 3), True), ((0.001, 0.001, 0.005), True)],
)  # fmt: skip
def test_more_than_fifteen_percent_along_any_axis_differs(spacing_mm: SpacingMm, differs: bool) -> None:
    assert bool(ONE.difference(spacing_mm)) is differs


def test_sizes_within_the_range_of_training_do_not_differ() -> None:
    trained_on = TrainingSpacing.of([(1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 4.0)])
    assert trained_on.difference((1, 1, 3)) == "" and trained_on.difference((1, 1, 4.5)) == ""
    assert "1 x 1 x 5 mm" in trained_on.difference((1, 1, 5))


def test_permuted_axes_are_named() -> None:
    assert "another order of axes" in ONE.difference((5.0, 1.0, 1.0))
    assert "another order of axes" not in ONE.difference((2.0, 2.0, 5.0))


@pytest.mark.parametrize("damage", [{"median": [1, 1]}, {"min": [0, 1, 1]}, {"max": None}, {"median": ["x", 1, 1]}])
def test_damaged_sizes_are_refused(damage: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        TrainingSpacing.from_json({**ONE.to_json(), **damage})
