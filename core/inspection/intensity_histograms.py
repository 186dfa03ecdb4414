"""Intensity histograms of the classes of one subject, their overlaps, and the accuracy of classification by intensity.

Voxels outside of the head are left out: those that are air in every modality and unlabelled. So are
those with the ignore label.
The *intensity classifier* assigns to each voxel the most frequent class in its histogram bin. It is an upper bound: no
rule that uses only the intensity of one voxel, at this resolution, classifies more voxels of this image correctly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from core.imaging.normalise import foreground
from core.imaging.outliers import intensity_range
from core.labels import IGNORE_INDEX
from core.types import VoxelIndex

BINS = 64


@dataclass(frozen=True)
class IntensityHistograms:
    """Histograms of one subject; index c is class c + 1, because the background is left out.

    Attributes
    ----------
    bin_edges : ndarray, shape (modality, BINS + 1). From the least to the greatest intensity of the head, without
        outliers, which count in the first and last bin.
    counts : ndarray, int64, shape (modality, class, BINS). Voxels.
    joint_counts : ndarray, int64, shape (class, BINS, BINS), or None. Voxels by the bins of the first two modalities;
        ``None`` with one modality.
    overlaps : tuple of dict. Per modality, the overlap of the normalised histograms of classes (c, d), 0 (disjoint) to
        1 (equal); NaN where a class is absent.
    accuracies : tuple of float. Accuracy of the intensity classifier on the labelled voxels: from each single modality,
        then from the first two together.
    class_voxels : tuple of int. Voxels of each class, background included.
    total_voxels : int. Voxels of the volume that are not ignored.
    """

    bin_edges: np.ndarray
    counts: np.ndarray
    joint_counts: np.ndarray | None
    overlaps: tuple[dict[tuple[int, int], float], ...]
    accuracies: tuple[float, ...]
    class_voxels: tuple[int, ...]
    total_voxels: int


def compute_histograms(image: np.ndarray, label: np.ndarray, classes: int) -> IntensityHistograms:
    """Compute the histograms of a subject.

    Parameters
    ----------
    image : ndarray, float32, shape (channel, i, j, k). Intensities.
    label : ndarray, integer, shape (i, j, k). Class indices below ``classes``, or :data:`core.labels.IGNORE_INDEX`.
    classes : int. Number of classes, background included.

    Raises
    ------
    ValueError
        If no voxel is labelled.
    """
    counted = label != IGNORE_INDEX
    head = (np.any([foreground(channel) for channel in image], axis=0) | (label > 0)) & counted
    head_label = label[head].astype(np.int64)
    if not (head_label > 0).any():
        raise ValueError("expected at least one labelled voxel, found none")
    bin_edges, bins = [], []
    for channel in image:
        inliers, values = intensity_range(channel), channel[head]
        low, high = max(float(values.min()), inliers.low), min(float(values.max()), inliers.high)
        bin_edges.append(np.linspace(low, high if high > low else low + 1, BINS + 1))
        bin_index = np.searchsorted(bin_edges[-1], values, side="right") - 1
        bins.append(bin_index.clip(0, BINS - 1))  # the last bin is closed, as in numpy.histogram
    counts = np.stack([_count_by_class(head_label * BINS + b, classes, BINS) for b in bins])
    tables = list(counts)
    joint_counts = None
    if len(bins) > 1:
        joint_bins = head_label * BINS**2 + bins[0] * BINS + bins[1]
        tables.append(_count_by_class(joint_bins, classes, BINS**2))
        joint_counts = tables[-1].reshape(classes - 1, BINS, BINS)
    return IntensityHistograms(
        bin_edges=np.stack(bin_edges),
        counts=counts,
        joint_counts=joint_counts,
        overlaps=tuple(_pairwise_overlaps(table) for table in counts),
        accuracies=tuple(float(table.max(axis=0).sum() / table.sum()) for table in tables),
        class_voxels=tuple(int(n) for n in np.bincount(label[counted], minlength=classes)),
        total_voxels=int(np.count_nonzero(counted)),
    )


def label_centre(label: np.ndarray) -> VoxelIndex:
    """Centre of the bounding box of the labelled voxels; of the volume without any."""
    if not label.any():
        i, j, k = (n // 2 for n in label.shape)
        return i, j, k
    occupied = [np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    i, j, k = ((int(slices[0]) + int(slices[-1])) // 2 for slices in occupied)
    return i, j, k


def _count_by_class(cells: np.ndarray, classes: int, cells_per_class: int) -> np.ndarray:
    """Voxels by class and histogram cell, shape (classes - 1, cells_per_class); background left out."""
    return np.bincount(cells, minlength=classes * cells_per_class).reshape(classes, cells_per_class)[1:]


def _pairwise_overlaps(counts: np.ndarray) -> dict[tuple[int, int], float]:
    """Sum over bins of the smaller of two normalised histograms, for every pair of classes."""
    sizes = counts.sum(axis=1)
    overlaps = {}
    for c, d in itertools.combinations(range(len(counts)), 2):
        if sizes[c] and sizes[d]:
            overlaps[c, d] = float(np.minimum(counts[c] / sizes[c], counts[d] / sizes[d]).sum())
        else:
            overlaps[c, d] = float("nan")
    return overlaps
