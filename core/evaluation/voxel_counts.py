"""Counts of voxels: by pair of classes, by class in each slice (what Dice per slice is made of), by who is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation.error_regions import ConfusedClasses
from core.labels import IGNORE_INDEX

SLAB_VOXELS = 2**21  # that are counted at a time


@dataclass(frozen=True)
class SliceCounts:
    """Voxels of a class in the slices across an axis, from the first slice that has any to the last one.

    Attributes
    ----------
    index : int. Class index.
    first : int. Number of the first slice.
    labelled : tuple of int. Voxels of the class in the truth plus those in the prediction, by slice.
    shared : tuple of int. Voxels that have it in both, by slice. Dice of a slice is ``2 * shared / labelled``.
    """

    index: int
    first: int
    labelled: tuple[int, ...]
    shared: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "index": self.index,
            "first": self.first,
            "labelled": list(self.labelled),
            "shared": list(self.shared),
        }


@dataclass(frozen=True)
class VoxelCounts:
    """Counts in two segmentations of one volume.

    Attributes
    ----------
    confused : tuple of ConfusedClasses. All pairs of different classes that occur, the most voxels first.
    slices : tuple of tuple of SliceCounts. For each of the axes i, j, k the foreground classes that occur.
    """

    confused: tuple[ConfusedClasses, ...]
    slices: tuple[tuple[SliceCounts, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "confused": [[pair.truth, pair.prediction, pair.voxels] for pair in self.confused],
            "slices": [[counts.to_json() for counts in of_axis] for of_axis in self.slices],
        }


def count_voxels(truth: np.ndarray, prediction: np.ndarray, classes: int) -> VoxelCounts:
    """Count voxels by pair of classes and by slice; voxels that are ignored in either segmentation are left out.

    Parameters
    ----------
    truth, prediction : ndarray, integer, shape (i, j, k). Class indices, or :data:`core.labels.IGNORE_INDEX`.
    classes : int. Number of classes, background included.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"expected segmentations of one shape, got {truth.shape} and {prediction.shape}")
    pairs = np.zeros(classes * classes, np.int64)
    labelled, shared = ([np.zeros(size * classes, np.int64) for size in truth.shape] for _ in range(2))
    count = max(1, SLAB_VOXELS // max(1, truth.shape[0] * truth.shape[1]))
    for first in range(0, truth.shape[2], count):
        t, p = truth[..., first : first + count], prediction[..., first : first + count]
        voxels = np.nonzero(((t != 0) | (p != 0)) & (t != IGNORE_INDEX) & (p != IGNORE_INDEX))
        in_truth, predicted = t[voxels].astype(np.intp), p[voxels].astype(np.intp)
        pairs += np.bincount(in_truth * classes + predicted, minlength=len(pairs))
        same = in_truth == predicted
        for axis, number in enumerate((voxels[0], voxels[1], voxels[2] + first)):
            size, start = len(labelled[axis]), number * classes
            labelled[axis] += np.bincount(start + in_truth, minlength=size)
            labelled[axis] += np.bincount(start + predicted, minlength=size)
            shared[axis] += np.bincount((start + in_truth)[same], minlength=size)
    by_axis = [(a.reshape(-1, classes), b.reshape(-1, classes)) for a, b in zip(labelled, shared, strict=True)]
    return VoxelCounts(_confused(pairs.reshape(classes, classes)), tuple(_slices(*counts) for counts in by_axis))


def count_changes(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of voxels in which only the first of two predictions is right, only the second, and neither.

    Parameters
    ----------
    truth, first, second : ndarray, integer, same shape. Class indices; voxels that are ignored in any of them
        (:data:`core.labels.IGNORE_INDEX`) are left out.

    Returns
    -------
    ndarray, int64, shape (3,).
    """
    counted = (truth != IGNORE_INDEX) & (first != IGNORE_INDEX) & (second != IGNORE_INDEX)
    first_right, second_right = first == truth, second == truth
    kinds = (first_right & ~second_right, ~first_right & second_right, ~first_right & ~second_right)
    return np.array([np.count_nonzero(kind & counted) for kind in kinds], np.int64)


def _confused(pairs: np.ndarray) -> tuple[ConfusedClasses, ...]:
    """The pairs of different classes of a table with a row for each class of the truth."""
    found = [ConfusedClasses(int(t), int(p), int(pairs[t, p])) for t, p in np.argwhere(pairs) if t != p]
    return tuple(sorted(found, key=lambda pair: -pair.voxels))


def _slices(labelled: np.ndarray, shared: np.ndarray) -> tuple[SliceCounts, ...]:
    """The foreground classes that occur in two tables with a row for each slice and a column for each class."""
    found = []
    for index in range(1, labelled.shape[1]):
        occupied = np.flatnonzero(labelled[:, index])
        if occupied.size:
            part = slice(occupied[0], occupied[-1] + 1)
            both = tuple(shared[part, index].tolist())
            found.append(SliceCounts(index, int(occupied[0]), tuple(labelled[part, index].tolist()), both))
    return tuple(found)
