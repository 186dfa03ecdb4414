"""Histograms, overlaps and shares against numpy's own, on a few voxels counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.datasets.synthetic.contrast import overlap
from core.inspection.intensity_histograms import BINS, middle, tissue


def example() -> tuple[np.ndarray, np.ndarray]:
    """Two modalities of random tissue in air; the second class is brighter in the first modality."""
    rng = np.random.default_rng(3)
    label = np.zeros((12, 10, 8), np.uint8)
    label[2:9, 2:8, 1:7] = rng.integers(1, 4, (7, 6, 6))
    image = np.zeros((2, *label.shape), np.float32)
    there = label > 0
    image[0][there] = rng.normal(100, 10, there.sum()) + 20 * label[there]
    image[1][there] = rng.normal(100, 10, there.sum())
    return image, label


def test_counts_are_numpys_histograms_of_each_class() -> None:
    image, label = example()
    found = tissue(image, label, 4)
    for m in range(2):
        for c in (1, 2, 3):
            expected, _ = np.histogram(image[m][label == c], found.edges[m])
            np.testing.assert_array_equal(found.counts[m, c - 1], expected)
    assert found.joint is not None
    for c in (1, 2, 3):
        first, second = image[:, label == c]
        expected, _, _ = np.histogram2d(first, second, bins=[found.edges[0], found.edges[1]])
        np.testing.assert_array_equal(found.joint[c - 1], expected)
    assert found.voxels == tuple((label == c).sum() for c in range(4)) and found.total == label.size


def test_overlaps_are_those_that_the_demo_data_is_made_for() -> None:
    image, label = example()
    found = tissue(image, label, 4)
    values = [image[0][label == c] for c in (1, 2, 3)]
    low, high = float(image[0][label > 0].min()), float(image[0][label > 0].max())
    for (c, d), value in found.overlaps[0].items():
        assert value == pytest.approx(overlap(values[c], values[d], low, high))
    assert list(found.overlaps[0]) == [(0, 1), (0, 2), (1, 2)]
    assert found.overlaps[0][0, 2] < found.overlaps[0][0, 1] < 1


def test_a_guess_by_intensity_is_the_most_frequent_class_of_its_bin() -> None:
    image, label = example()
    found = tissue(image, label, 4)
    head = label > 0
    bins = (np.digitize(image[0][head], found.edges[0]) - 1).clip(0, BINS - 1)
    best = found.counts[0].argmax(axis=0) + 1
    assert found.guesses[0] == pytest.approx((best[bins] == label[head]).mean())
    assert found.guesses[2] >= max(found.guesses[:2])  # two modalities never say less than one of them


def test_one_modality_a_class_that_is_absent_and_air_with_a_label() -> None:
    image, label = example()
    label[label == 2] = 0
    label[0, 0, 0] = 1  # its intensity is 0, as that of air
    found = tissue(image[:1], label, 4)
    assert found.joint is None and len(found.guesses) == 1
    assert math.isnan(found.overlaps[0][0, 1]) and not math.isnan(found.overlaps[0][0, 2])
    assert found.edges[0, 0] == 0 and found.counts[0, 0].sum() == (label == 1).sum()


def test_an_image_without_contrast_or_labels() -> None:
    label = np.zeros((3, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="at least one labelled voxel"):
        tissue(np.ones((1, 3, 3, 3), np.float32), label, 2)
    label[1, 1, 1] = 1
    found = tissue(np.ones((1, 3, 3, 3), np.float32), label, 2)
    assert found.counts.sum() == 1 and found.guesses == (1.0,)


def test_the_middle_of_what_is_labelled() -> None:
    label = np.zeros((9, 8, 7), np.uint8)
    assert middle(label) == (4, 4, 3)
    label[2, 3, 4] = label[6, 5, 4] = 1
    assert middle(label) == (4, 4, 4)
