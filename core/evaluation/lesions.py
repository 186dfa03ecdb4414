"""Lesion-wise scores of a class that comes as several components: which are detected, missed, or false.

A lesion is a component of the truth (26-connected). It is detected if one of its voxels is predicted. A predicted
component that shares no voxel with a lesion is a false one. Dice of a lesion is that of its voxels and of the predicted
components that overlap it, without their voxels in other lesions; a missed lesion has Dice 0.

Sensitivity is the share of detected lesions, precision the share of predicted components that are not false; both are
NaN where there is nothing to count.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation.metrics import nan_mean
from core.evaluation.surfaces import VoxelMm, axes_mm_of, bounding_box
from core.types import VoxelIndex

TOUCHING = np.ones((3, 3, 3), bool)
MAIN_SHARE = 0.9  # of a class: with more in one component, it counts as one structure with specks
ROUNDING = 1e-9  # relative: a lesion of a hundred voxels of 0.0001 ml has 0.01 ml
MAX_LISTED = 100  # lesions of a kind
SIZES_ML = (0.01, 0.1, 1.0, 10.0)  # limits of the sizes by which sensitivity is given


@dataclass(frozen=True)
class Lesion:
    """A component of the truth, or a false one of the prediction.

    Attributes
    ----------
    volume_ml : float.
    centre : tuple of int. Its voxel nearest to its centre of mass.
    dice : float. Of a component of the truth; 0 for a missed one; NaN for a false one.
    """

    volume_ml: float
    centre: VoxelIndex
    dice: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is ``None``."""
        return {"volume_ml": self.volume_ml, "centre": list(self.centre), "dice": _or_none(self.dice)}


@dataclass(frozen=True)
class SizeClass:
    """Number of lesions of ``low_ml`` up to, but not including, ``high_ml``, and of those that are detected."""

    low_ml: float
    high_ml: float
    lesions: int
    detected: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite limit is ``None``."""
        high = _or_none(self.high_ml)
        return {"low_ml": self.low_ml, "high_ml": high, "lesions": self.lesions, "detected": self.detected}


@dataclass(frozen=True)
class LesionScore:
    """Lesions of one class in one subject.

    Attributes
    ----------
    detected, missed, false : tuple of Lesion. The largest first.
    predicted : int. Number of components of the prediction.
    """

    detected: tuple[Lesion, ...]
    missed: tuple[Lesion, ...]
    false: tuple[Lesion, ...]
    predicted: int

    @property
    def sensitivity(self) -> float:
        """Share of the lesions that are detected; NaN without lesions."""
        total = len(self.detected) + len(self.missed)
        return len(self.detected) / total if total else math.nan

    @property
    def precision(self) -> float:
        """Share of the predicted components that are not false; NaN without any."""
        return 1 - len(self.false) / self.predicted if self.predicted else math.nan

    @property
    def mean_dice(self) -> float:
        """Mean over the lesions, missed ones with 0; NaN without lesions."""
        return nan_mean(lesion.dice for lesion in (*self.detected, *self.missed))

    @property
    def by_size(self) -> tuple[SizeClass, ...]:
        """Detected lesions by their size; only sizes of which there are lesions."""
        limits = (0.0, *SIZES_ML, math.inf)
        made = []
        for low, high in itertools.pairwise(limits):
            detected, missed = (
                sum(low * (1 - ROUNDING) <= lesion.volume_ml < high * (1 - ROUNDING) for lesion in lesions)
                for lesions in (self.detected, self.missed)
            )
            made.append(SizeClass(low, high, detected + missed, detected))
        return tuple(size for size in made if size.lesions)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the :data:`MAX_LISTED` largest lesions of each kind; NaN is ``None``."""
        return {
            **{
                name: {"count": len(lesions), "largest": [lesion.to_json() for lesion in lesions[:MAX_LISTED]]}
                for name, lesions in (("detected", self.detected), ("missed", self.missed), ("false", self.false))
            },
            "sensitivity": _or_none(self.sensitivity),
            "precision": _or_none(self.precision),
            "mean_dice": _or_none(self.mean_dice),
            "by_size": [size.to_json() for size in self.by_size],
        }


def score_lesions(truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm) -> LesionScore | None:
    """Score the components of two masks.

    Parameters
    ----------
    truth, prediction : ndarray, bool, shape (i, j, k). Ignored voxels are in neither.
    voxel_mm : as in :func:`core.evaluation.metrics.score_subject`.

    Returns
    -------
    LesionScore or None. ``None`` where neither mask comes as several components: in both, one component holds at least
    :data:`MAIN_SHARE` of the voxels, or there are none.

    Raises
    ------
    ValueError
        If the shapes differ, or the voxel size is not three positive numbers or steps.
    """
    from scipy import ndimage

    if truth.shape != prediction.shape:
        raise ValueError(f"expected masks of one shape, got {truth.shape} and {prediction.shape}")
    axes_mm = axes_mm_of(voxel_mm)
    voxel_ml = abs(float(np.linalg.det(axes_mm))) / 1000
    either = truth | prediction
    if not either.any():
        return None
    box = bounding_box(either)
    truth, prediction = truth[box], prediction[box]
    (in_truth, lesions), (in_prediction, predicted) = (
        ndimage.label(mask, structure=TOUCHING) for mask in (truth, prediction)
    )
    sizes = [
        np.bincount(labels.ravel(), minlength=count + 1)
        for labels, count in ((in_truth, lesions), (in_prediction, predicted))
    ]
    if all(_is_one_structure(counts[1:]) for counts in sizes):
        return None
    # Pairs of a lesion and a predicted component that share voxels; of noise, a table of all pairs would be too large.
    both = truth & prediction
    codes = in_truth[both].astype(np.int64) * (predicted + 1) + in_prediction[both]
    pairs, shared = np.unique(codes, return_counts=True)
    lesion, component = np.divmod(pairs, predicted + 1)
    in_lesions = np.bincount(component, shared, minlength=predicted + 1)
    common = np.bincount(lesion, shared, minlength=lesions + 1)
    beside = np.bincount(lesion, (sizes[1] - in_lesions)[component], minlength=lesions + 1)  # predicted, in no lesion
    dice = 2 * common / np.maximum(sizes[0] + common + beside, 1)
    start = (box[0].start, box[1].start, box[2].start)
    centres = [_centres(labels, axes_mm, start) for labels in (in_truth, in_prediction)]
    found = [Lesion(int(sizes[0][n]) * voxel_ml, centres[0][n - 1], float(dice[n])) for n in range(1, lesions + 1)]
    detected = [one for n, one in enumerate(found, 1) if common[n]]
    missed = [one for n, one in enumerate(found, 1) if not common[n]]
    false = [
        Lesion(int(sizes[1][n]) * voxel_ml, centres[1][n - 1], math.nan)
        for n in range(1, predicted + 1)
        if not in_lesions[n]
    ]
    return LesionScore(_largest_first(detected), _largest_first(missed), _largest_first(false), predicted)


def _largest_first(lesions: list[Lesion]) -> tuple[Lesion, ...]:
    return tuple(sorted(lesions, key=lambda lesion: -lesion.volume_ml))


def _is_one_structure(sizes: np.ndarray) -> bool:
    return not sizes.size or bool(sizes.max() >= MAIN_SHARE * sizes.sum())


def _centres(labels: np.ndarray, axes_mm: np.ndarray, start: VoxelIndex) -> list[VoxelIndex]:
    """The voxel of each component that is nearest to its centre of mass; ``start`` is that of the labels."""
    from scipy import ndimage

    centres: list[VoxelIndex] = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        voxels = np.argwhere(labels[box] == number)
        from_centre = (voxels - voxels.mean(axis=0)) @ axes_mm.T
        nearest = voxels[np.argmin((from_centre**2).sum(1))]
        i, j, k = (int(n) + part.start + first for n, part, first in zip(nearest, box, start, strict=True))
        centres.append((i, j, k))
    return centres


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
