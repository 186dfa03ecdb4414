"""Intensity histograms, overlaps and accuracies against numpy and hand-computed values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.datasets.synthetic.contrast import histogram_overlap
from core.inspection.intensity_histograms import BINS, compute_histograms, label_centre
from core.labels import IGNORE_INDEX


def make_subject() -> tuple[np.ndarray, np.ndarray]:
    """Two modalities of random intensities; higher classes are brighter in the first."""
    rng = np.random.default_rng(3)
    label = np.zeros((12, 10, 8), np.uint8)
    label[2:9, 2:8, 1:7] = rng.integers(1, 4, (7, 6, 6))
    image = np.zeros((2, *label.shape), np.float32)
    head = label > 0
    image[0][head] = rng.normal(100, 10, head.sum()) + 20 * label[head]
    image[1][head] = rng.normal(100, 10, head.sum())
    return image, label


def test_counts_equal_numpy_histograms_of_each_class() -> None:
    image, label = make_subject()
    histograms = compute_histograms(image, label, 4)
    for m in range(2):
        for c in (1, 2, 3):
            expected, _ = np.histogram(image[m][label == c], histograms.bin_edges[m])
            np.testing.assert_array_equal(histograms.counts[m, c - 1], expected)
    assert histograms.joint_counts is not None
    for c in (1, 2, 3):
        first, second = image[:, label == c]
        expected, _, _ = np.histogram2d(first, second, bins=[histograms.bin_edges[0], histograms.bin_edges[1]])
        np.testing.assert_array_equal(histograms.joint_counts[c - 1], expected)
    assert (
        histograms.class_voxels == tuple((label == c).sum() for c in range(4)) and histograms.total_voxels == label.size
    )


def test_overlaps_equal_those_of_the_demo_data() -> None:
    image, label = make_subject()
    histograms = compute_histograms(image, label, 4)
    values = [image[0][label == c] for c in (1, 2, 3)]
    low, high = float(image[0][label > 0].min()), float(image[0][label > 0].max())
    for (c, d), value in histograms.overlaps[0].items():
        assert value == pytest.approx(histogram_overlap(values[c], values[d], low, high))
    assert list(histograms.overlaps[0]) == [(0, 1), (0, 2), (1, 2)]
    assert histograms.overlaps[0][0, 2] < histograms.overlaps[0][0, 1] < 1


def test_accuracy_is_that_of_the_most_frequent_class_per_bin() -> None:
    image, label = make_subject()
    histograms = compute_histograms(image, label, 4)
    head = label > 0
    bins = (np.digitize(image[0][head], histograms.bin_edges[0]) - 1).clip(0, BINS - 1)
    best = histograms.counts[0].argmax(axis=0) + 1
    assert histograms.accuracies[0] == pytest.approx((best[bins] == label[head]).mean())
    assert histograms.accuracies[2] >= max(histograms.accuracies[:2])  # joint bins refine the bins of one modality


def test_single_modality_absent_class_and_labelled_air() -> None:
    image, label = make_subject()
    label[label == 2] = 0
    label[0, 0, 0] = 1  # intensity 0, as of air
    histograms = compute_histograms(image[:1], label, 4)
    assert histograms.joint_counts is None and len(histograms.accuracies) == 1
    assert math.isnan(histograms.overlaps[0][0, 1]) and not math.isnan(histograms.overlaps[0][0, 2])
    assert histograms.bin_edges[0, 0] == 0 and histograms.counts[0, 0].sum() == (label == 1).sum()


def test_constant_image_and_missing_labels() -> None:
    label = np.zeros((3, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="at least one labelled voxel"):
        compute_histograms(np.ones((1, 3, 3, 3), np.float32), label, 2)
    label[1, 1, 1] = 1
    histograms = compute_histograms(np.ones((1, 3, 3, 3), np.float32), label, 2)
    assert histograms.counts.sum() == 1 and histograms.accuracies == (1.0,)


def test_label_centre_is_the_centre_of_the_bounding_box() -> None:
    label = np.zeros((9, 8, 7), np.uint8)
    assert label_centre(label) == (4, 4, 3)
    label[2, 3, 4] = label[6, 5, 4] = 1
    assert label_centre(label) == (4, 4, 4)


def test_outliers_count_in_the_last_bin_and_do_not_widen_the_others() -> None:
    rng = np.random.default_rng(3)
    label = np.ones((16, 16, 16), np.uint8)
    label[:8] = 2
    image = rng.normal(100, 10, (1, 16, 16, 16)).astype(np.float32)
    image[0, :8] += 60
    plain = compute_histograms(image, label, 3)
    image[0, 3, 3, 3] = 1e6
    spoilt = compute_histograms(image, label, 3)
    assert spoilt.bin_edges[0, -1] < 250 and spoilt.counts.sum() == label.size
    assert spoilt.accuracies == pytest.approx(plain.accuracies, abs=0.01)


def test_ignored_voxels_are_left_out() -> None:
    image, label = make_subject()
    cropped, whole = compute_histograms(image[:, :6], label[:6], 4), label.copy()
    whole[6:] = IGNORE_INDEX
    ignored = compute_histograms(image, whole, 4)
    assert ignored.class_voxels == cropped.class_voxels and ignored.total_voxels == cropped.total_voxels
    assert np.array_equal(ignored.counts.sum(axis=-1), cropped.counts.sum(axis=-1))
    with pytest.raises(ValueError, match="at least one labelled voxel"):
        compute_histograms(image, np.full_like(label, IGNORE_INDEX), 4)
