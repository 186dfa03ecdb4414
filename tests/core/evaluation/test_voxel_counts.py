"""Counts of voxels by pair of classes and by slice: by hand, against a loop over slices, with ignored voxels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from core.evaluation import voxel_counts
from core.evaluation.metrics import dice_per_class
from core.evaluation.voxel_counts import count_changes, count_voxels
from core.labels import IGNORE_INDEX

CLASSES = 4
SHAPE = (7, 9, 11)


def dice_of_slices(counts: dict[str, Any], axis: int, index: int, slices: int) -> np.ndarray:
    """Dice of a class in each slice across an axis, NaN where it is in neither segmentation, from the plain values."""
    dice = np.full(slices, np.nan)
    for one in counts["slices"][axis]:
        if one["index"] == index:
            for n, (labelled, shared) in enumerate(zip(one["labelled"], one["shared"], strict=True)):
                if labelled:
                    dice[one["first"] + n] = 2 * shared / labelled
    return dice


def noise(seed: int, classes: int = CLASSES) -> np.ndarray:
    """Class indices in a part of the volume."""
    index = np.zeros(SHAPE, np.uint8)
    index[1:6, 2:8, 3:10] = np.random.default_rng(seed).integers(0, classes, (5, 6, 7))
    return index


def test_counts_by_hand() -> None:
    truth, prediction = np.zeros((3, 2, 4), np.uint8), np.zeros((3, 2, 4), np.uint8)
    truth[1, 0, 1:4] = 1
    prediction[1, 0, 2] = 1
    prediction[1, 0, 3] = 2
    prediction[2, 1, 3] = 2
    counts = count_voxels(truth, prediction, 3)
    assert {(pair.truth, pair.prediction, pair.voxels) for pair in counts.confused} == {(1, 0, 1), (1, 2, 1), (0, 2, 1)}
    along_k = counts.to_json()["slices"][2]
    assert along_k == [
        {"index": 1, "first": 1, "labelled": [1, 2, 1], "shared": [0, 1, 0]},
        {"index": 2, "first": 3, "labelled": [2], "shared": [0]},
    ]
    assert [one["first"] for one in counts.to_json()["slices"][0]] == [1, 1]


def test_largest_confusion_comes_first_and_equal_segmentations_have_none() -> None:
    truth, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    truth[0, 0, :3] = 1
    prediction[2, 2, :5] = 3
    found = count_voxels(truth, prediction, CLASSES).confused
    assert [(pair.truth, pair.prediction, pair.voxels) for pair in found] == [(0, 3, 5), (1, 0, 3)]
    same = count_voxels(truth, truth, CLASSES)
    assert same.confused == () and [one.index for one in same.slices[0]] == [1]


@pytest.mark.parametrize("slab_voxels", [1, 130, 2**21])
def test_dice_of_each_slice_is_that_of_its_voxels(slab_voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voxel_counts, "SLAB_VOXELS", slab_voxels)
    truth, prediction = noise(0), noise(1, classes=3)  # the last class is missed
    counts = json.loads(json.dumps(count_voxels(truth, prediction, CLASSES).to_json()))
    for axis, slices in enumerate(SHAPE):
        expected = np.array([dice_per_class(truth.take(n, axis), prediction.take(n, axis), 4) for n in range(slices)])
        for index in range(1, CLASSES):
            found = dice_of_slices(counts, axis, index, slices)
            np.testing.assert_allclose(found, expected[:, index], err_msg=f"axis {axis}, class {index}")
    for t, p, voxels in counts["confused"]:
        assert voxels == int(((truth == t) & (prediction == p)).sum()) > 0
    assert sum(voxels for *_, voxels in counts["confused"]) == int((truth != prediction).sum())


def test_ignored_voxels_are_counted_nowhere() -> None:
    truth, prediction = noise(0), noise(1)
    ignored = np.random.default_rng(2).random(SHAPE) < 0.3
    known = (np.where(ignored, 0, truth), np.where(ignored, 0, prediction))
    expected = count_voxels(*known, CLASSES)
    marked = np.where(ignored, IGNORE_INDEX, truth).astype(np.uint8)
    assert count_voxels(marked, prediction, CLASSES) == expected
    assert count_voxels(truth, np.where(ignored, IGNORE_INDEX, prediction).astype(np.uint8), CLASSES) == expected


def test_who_is_right_is_counted_where_nothing_is_ignored() -> None:
    truth, first, second = noise(0), noise(1), noise(2)
    truth[3, 4, 5], first[3, 4, 6], second[3, 4, 7] = [IGNORE_INDEX] * 3
    expected = [0, 0, 0]
    for t, a, b in zip(truth.ravel(), first.ravel(), second.ravel(), strict=True):
        if IGNORE_INDEX not in (t, a, b) and (a != t or b != t):
            expected[0 if a == t else 1 if b == t else 2] += 1
    assert count_changes(truth, first, second).tolist() == expected and min(expected) > 0


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        count_voxels(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), 2)
