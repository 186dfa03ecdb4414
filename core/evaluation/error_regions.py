"""Regions in which a segmentation is wrong: connected components of disagreement, the largest first.

The depth of a wrong voxel is its distance to the nearest voxel of its class in the other segmentation: how far it lies
beyond the surface there. A voxel whose class is wrong has two foreground classes, and its depth is the larger of the
two distances. A class that the other segmentation lacks has no surface: the depth is infinite.

Most wrong voxels lie along the border of a structure, in a shell of one voxel that connects everything. A *border
error* is a wrong voxel that touches, also at an edge or a corner, its class in the other segmentation. Components are
those of the other wrong voxels, each with the border errors that touch it; or of all wrong voxels.

Voxels with the ignore label in the truth are not wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation.surfaces import VoxelMm, axes_mm_of, bounding_box, surface_of
from core.imaging.geometry import SHEAR_TOLERANCE_DEG, shear_deg
from core.labels import leave_out_ignored
from core.types import VoxelIndex

TOUCHING = np.ones((3, 3, 3), bool)  # a voxel and its 26 neighbours
MAX_REGIONS = 200  # that are described; the others are counted


@dataclass(frozen=True)
class ConfusedClasses:
    """Voxels of one class in the truth and another one in the prediction, by their class indices."""

    truth: int
    prediction: int
    voxels: int


@dataclass(frozen=True)
class ErrorRegion:
    """A connected component of disagreement.

    Attributes
    ----------
    voxels : int.
    volume_ml : float.
    depth_mm : float. Of its deepest voxel; infinite where one of its classes is not in the other segmentation.
    centre : tuple of int. Its deepest voxel; of several the one nearest to its centre of mass.
    first, last : tuple of int. Corners of its bounding box, both inside.
    confused : tuple of ConfusedClasses. Which class was taken for which, the most voxels first.
    """

    voxels: int
    volume_ml: float
    depth_mm: float
    centre: VoxelIndex
    first: VoxelIndex
    last: VoxelIndex
    confused: tuple[ConfusedClasses, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite depth is ``None``."""
        return {
            "voxels": self.voxels,
            "volume_ml": self.volume_ml,
            "depth_mm": self.depth_mm if math.isfinite(self.depth_mm) else None,
            "centre": list(self.centre),
            "first": list(self.first),
            "last": list(self.last),
            "confused": [[pair.truth, pair.prediction, pair.voxels] for pair in self.confused],
        }


@dataclass(frozen=True)
class ErrorRegions:
    """Regions of a prediction's errors.

    Attributes
    ----------
    regions : tuple of ErrorRegion. The largest first, at most :data:`MAX_REGIONS`.
    others : int. Number of the smaller regions, which are not described.
    others_ml : float. Their volume.
    border_ml : float. Volume of the border errors that touch no region.
    """

    regions: tuple[ErrorRegion, ...]
    others: int
    others_ml: float
    border_ml: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "regions": [region.to_json() for region in self.regions],
            "others": self.others,
            "others_ml": self.others_ml,
            "border_ml": self.border_ml,
        }


class Disagreement:
    """The wrong voxels of a prediction with their depths.

    Parameters
    ----------
    truth, prediction : ndarray, integer, shape (i, j, k). Class indices; ignored voxels in the truth.
    voxel_mm : as in :func:`core.evaluation.metrics.score_subject`.

    Raises
    ------
    ValueError
        If the shapes differ, or the voxel size is not three positive numbers or steps.
    """

    def __init__(self, truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm) -> None:
        if truth.shape != prediction.shape:
            raise ValueError(f"expected segmentations of one shape, got {truth.shape} and {prediction.shape}")
        self._axes_mm = axes_mm_of(voxel_mm)
        self._voxel_ml = abs(float(np.linalg.det(self._axes_mm))) / 1000
        prediction = leave_out_ignored(truth, prediction)
        is_wrong = truth != prediction
        self._start = np.zeros(3, np.intp)
        box: tuple[slice, ...] = (slice(0, 0),) * 3
        if is_wrong.any():
            box = bounding_box(is_wrong)
            self._start = np.array([part.start for part in box])
        self._truth, self._prediction, self._is_wrong = truth[box], prediction[box], is_wrong[box]
        self._depth_mm = np.zeros(self._is_wrong.shape, np.float32)
        self._is_deep = np.zeros(self._is_wrong.shape, bool)  # wrong, and no border error
        for index in np.union1d(self._truth[self._is_wrong], self._prediction[self._is_wrong]):
            if index:
                self._measure(truth == index, prediction == index, box)

    def regions(self, with_border: bool = False) -> ErrorRegions:
        """The regions of these voxels.

        Parameters
        ----------
        with_border : bool. Whether components are those of all wrong voxels, border errors included.
        """
        from scipy import ndimage

        labels, count = ndimage.label(self._is_wrong if with_border else self._is_deep, structure=TOUCHING)
        if not count:
            return ErrorRegions((), 0, 0.0, int(self._is_wrong.sum()) * self._voxel_ml)
        if not with_border:
            around = ndimage.maximum_filter(labels, size=3)
            labels = np.where(self._is_wrong & (labels == 0), around, labels)
        sizes = np.bincount(labels[self._is_wrong], minlength=count + 1)
        order = np.argsort(-sizes[1:], kind="stable") + 1
        boxes = ndimage.find_objects(labels)
        described = tuple(self._region(labels, int(n), boxes[n - 1]) for n in order[:MAX_REGIONS])
        others = order[MAX_REGIONS:]
        others_ml = float(sizes[others].sum()) * self._voxel_ml
        return ErrorRegions(described, len(others), others_ml, int(sizes[0]) * self._voxel_ml)

    def _measure(self, in_truth: np.ndarray, in_prediction: np.ndarray, box: tuple[slice, ...]) -> None:
        """Add the depths of the wrong voxels of one class; masks of the whole volume."""
        both = bounding_box(in_truth | in_prediction)
        starts = [max(a.start, b.start) for a, b in zip(box, both, strict=True)]
        stops = [min(a.stop, b.stop) for a, b in zip(box, both, strict=True)]
        shared = tuple(slice(*ends) for ends in zip(starts, stops, strict=True))  # all wrong voxels of the class are in
        inside = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(shared, box, strict=True))
        depth_mm, is_deep = self._depth_mm[inside], self._is_deep[inside]  # views
        for own, other in self._directions(in_truth[both], in_prediction[both]):
            distances, is_far = self._beyond(own, other)
            here = own[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(shared, both, strict=True))]
            depth_mm[here] = np.maximum(depth_mm[here], distances)
            is_deep[here] |= is_far

    @staticmethod
    def _directions(in_truth: np.ndarray, in_prediction: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Voxels that only one of two masks has, with the other mask; both ways, where there are any."""
        for own, other in ((in_truth & ~in_prediction, in_prediction), (in_prediction & ~in_truth, in_truth)):
            if own.any():
                yield own, other

    def _beyond(self, own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each voxel of a mask to another one, in mm, and whether it does not touch it."""
        from scipy import ndimage, spatial

        voxels = np.argwhere(own)
        if not other.any():
            return np.full(len(voxels), np.inf, np.float32), np.ones(len(voxels), bool)
        is_far = ~ndimage.binary_dilation(other, structure=TOUCHING)[own]
        # Between axes at right angles the nearest voxel is one of the surface.
        targets = surface_of(other) if shear_deg(self._axes_mm) <= SHEAR_TOLERANCE_DEG else other
        points = np.argwhere(targets) @ self._axes_mm.T
        tree = spatial.cKDTree(points, compact_nodes=False, balanced_tree=False)  # built in half of the time
        return np.asarray(tree.query(voxels @ self._axes_mm.T)[0], np.float32), is_far

    def _region(self, labels: np.ndarray, number: int, box: tuple[slice, ...]) -> ErrorRegion:
        mask = labels[box] == number
        voxels = np.argwhere(mask)
        depth_mm = self._depth_mm[box][mask]
        deepest = voxels[depth_mm == depth_mm.max()]
        from_centre = (deepest - voxels.mean(axis=0)) @ self._axes_mm.T
        start = self._start + [part.start for part in box]
        centre = deepest[np.argmin((from_centre**2).sum(axis=1))] + start
        pairs = np.stack([self._truth[box][mask], self._prediction[box][mask]]).astype(np.intp)
        found, counts = np.unique(pairs, axis=1, return_counts=True)
        confused = [ConfusedClasses(int(t), int(p), int(n)) for (t, p), n in zip(found.T, counts, strict=True)]
        return ErrorRegion(
            voxels=len(voxels),
            volume_ml=len(voxels) * self._voxel_ml,
            depth_mm=float(depth_mm.max()),
            centre=_index(centre),
            first=_index(start),
            last=_index(start + mask.shape - 1),
            confused=tuple(sorted(confused, key=lambda pair: -pair.voxels)),
        )


def _index(voxel: np.ndarray) -> VoxelIndex:
    i, j, k = (int(n) for n in voxel)
    return i, j, k
