"""Postprocessing of label maps, by hand-drawn volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.errors import ConfigError
from core.imaging.postprocessing import ClassRule, Postprocessing

CLASSES = ("background", "a", "b")
VOXEL_ML = 1.0


def apply(labels: np.ndarray, **rules: ClassRule) -> np.ndarray:
    before = labels.copy()
    result = Postprocessing(rules)(labels, VOXEL_ML, CLASSES)
    np.testing.assert_array_equal(labels, before)
    assert result.dtype == np.uint8
    return result


def two_blocks() -> np.ndarray:
    """Blocks of class 1 of 27 and 8 voxels, and of class 2 of 1 voxel."""
    labels = np.zeros((10, 9, 8), np.uint8)
    labels[1:4, 1:4, 1:4], labels[6:8, 6:8, 5:7], labels[8, 1, 1] = 1, 1, 2
    return labels


def test_only_the_largest_component_of_the_class_is_kept() -> None:
    labels = two_blocks()
    expected = labels.copy()
    expected[6:8, 6:8, 5:7] = 0
    np.testing.assert_array_equal(apply(labels, a=ClassRule(largest=True)), expected)
    np.testing.assert_array_equal(apply(labels, b=ClassRule(largest=True)), labels)


def test_of_equal_components_exactly_one_is_kept() -> None:
    labels = np.zeros((5, 1, 1), np.uint8)
    labels[[0, 4]] = 1
    assert apply(labels, a=ClassRule(largest=True)).ravel().tolist() == [1, 0, 0, 0, 0]


def test_voxels_that_touch_by_a_corner_are_one_component() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 1
    np.testing.assert_array_equal(apply(labels, a=ClassRule(largest=True)), labels)


@pytest.mark.parametrize(("minimum_ml", "left"), [(8, 35), (8.1, 27), (27, 27), (28, 0)])
def test_components_below_the_volume_are_removed(minimum_ml: float, left: int) -> None:
    assert int((apply(two_blocks(), a=ClassRule(minimum_ml=minimum_ml)) == 1).sum()) == left


def test_volume_follows_that_of_the_voxels() -> None:
    treat = Postprocessing({"a": ClassRule(minimum_ml=0.01)})
    assert (treat(two_blocks(), 0.001, CLASSES) == 1).sum() == 27  # 0.008 ml are removed
    assert (treat(two_blocks(), 0.002, CLASSES) == 1).sum() == 35


def shell() -> np.ndarray:
    """A hollow cube of class 1 around a hollow of 27 voxels."""
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2:7, 2:7, 2:7] = 1
    labels[3:6, 3:6, 3:6] = 0
    return labels


@pytest.mark.parametrize("size_mm", [0.8, 0.7, 1.1, float(np.float32(0.9))])
def test_a_component_of_exactly_the_volume_is_kept(size_mm: float) -> None:
    """Products of voxel sizes are rounded: 5 x 0.8^3 mm3 is less than 0.00256 ml by 4e-19."""
    labels = two_blocks()
    limit = Postprocessing({"a": ClassRule(minimum_ml=round(8 * round(size_mm, 3) ** 3 / 1000, 9))})
    np.testing.assert_array_equal(limit(labels, size_mm**3 / 1000, CLASSES), labels)
    more = Postprocessing({"a": ClassRule(minimum_ml=8.01 * size_mm**3 / 1000)})
    assert (more(labels, size_mm**3 / 1000, CLASSES) == 1).sum() == 27


def test_holes_are_filled() -> None:
    labels = shell()
    expected = labels.copy()
    expected[3:6, 3:6, 3:6] = 1
    np.testing.assert_array_equal(apply(labels, a=ClassRule(fill_holes=True)), expected)


def test_space_that_another_class_shares_or_that_is_open_is_no_hole() -> None:
    labels = shell()
    labels[4, 4, 4] = 2  # an object within the hollow
    np.testing.assert_array_equal(apply(labels, a=ClassRule(fill_holes=True)), labels)
    open_shell = shell()
    open_shell[4, 4, 6] = 0
    np.testing.assert_array_equal(apply(open_shell, a=ClassRule(fill_holes=True)), open_shell)
    corner = shell()
    corner[6, 6, 6] = 0  # faces alone join background
    assert apply(corner, a=ClassRule(fill_holes=True))[4, 4, 4] == 1


def test_removed_island_within_another_class_is_filled() -> None:
    labels = shell()
    labels[4, 4, 4], labels[0, 0:3, 0] = 2, 2
    result = apply(labels, a=ClassRule(fill_holes=True), b=ClassRule(largest=True))
    assert result[4, 4, 4] == 1 and (result == 2).sum() == 3


def test_empty_label_map_and_absent_class_stay_as_they_are() -> None:
    everything = ClassRule(largest=True, minimum_ml=1, fill_holes=True)
    for labels in (np.zeros((3, 4, 5), np.uint8), np.full((3, 4, 5), 2, np.uint8)):
        np.testing.assert_array_equal(apply(labels, a=everything), labels)


def test_rules_that_change_nothing_are_no_rules() -> None:
    assert not Postprocessing({"a": ClassRule()}) and Postprocessing().text == "none"
    labels = two_blocks()
    assert Postprocessing()(labels, VOXEL_ML, CLASSES) is labels


def test_json_and_text() -> None:
    treatment = Postprocessing({"a": ClassRule(largest=True, fill_holes=True), "b": ClassRule(minimum_ml=0.5)})
    assert Postprocessing.from_json(treatment.to_json()) == treatment
    assert treatment.text == "a: largest component, holes filled; b: components of at least 0.5 ml"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected a rule per class name"),
        ({"a": {"biggest": True}}, "expected largest, minimum_ml and fill_holes"),
        ({"a": {"largest": 1}}, "largest: expected true or false, got 1"),
        ({"a": {"minimum_ml": -1}}, "minimum_ml: expected a volume from 0 to 1e"),
        ({"a": {"minimum_ml": float("nan")}}, "minimum_ml"),
        ({"a": {"minimum_ml": "2"}}, "minimum_ml"),
    ],
)
def test_invalid_rules_are_refused(data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Postprocessing.from_json(data)


@pytest.mark.parametrize("name", ["background", "c"])
def test_rule_for_a_class_that_the_network_lacks_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected classes out of a and b; got '{name}'|a, b; got '{name}'"):
        Postprocessing({name: ClassRule(largest=True)})(two_blocks(), VOXEL_ML, CLASSES)
