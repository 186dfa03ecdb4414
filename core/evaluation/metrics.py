"""Scores of a whole volume: Dice, HD95 and average surface distance (ASD) per foreground class.

Dice      2 |T and P| / (|T| + |P|) of the truth's and the prediction's voxels.
HD95      the larger of the two directed 95th percentiles of surface distances, in mm (numpy's linear interpolation).
ASD       the mean of the surface distances in both directions, pooled (each surface voxel counts once), in mm.

The surface of a structure is the set of its voxels that a 6-connected erosion removes; the outside of the volume counts
as another class. Distances are between voxel centres, with the voxel size of each axis, or with the affine where the
voxel axes are not at right angles; volumes likewise.

A class absent from both truth and prediction is not scored (NaN). A class absent from one of them has Dice 0, no
distances (NaN), and is listed in ``missed``. Means leave NaN out and carry the number of values.

Voxels with the ignore label in the truth (:data:`core.labels.IGNORE_INDEX`) are as outside of the volume: they belong
to no class of truth or prediction, and count for no score and no volume.

At import the module needs only numpy; scipy is imported on first use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from core.imaging.geometry import SHEAR_TOLERANCE_DEG, shear_deg
from core.labels import IGNORE_INDEX, leave_out_ignored

PERCENTILE = 95.0

# Voxel size in mm along i, j, k; or steps in mm along i, j, k as columns of a matrix.
VoxelMm: TypeAlias = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the surfaces of two masks, in mm; NaN where a mask is empty."""

    hd95_mm: float
    asd_mm: float


@dataclass(frozen=True)
class SubjectScore:
    """Scores of one subject by class name, background left out.

    Attributes
    ----------
    dice, hd95_mm, asd_mm : dict. Value by class; NaN where undefined.
    missed : tuple of str. Classes present in only one of truth and prediction.
    volume_ml : dict. ``{"truth": ..., "prediction": ...}`` by class.
    """

    dice: dict[str, float]
    hd95_mm: dict[str, float]
    asd_mm: dict[str, float]
    missed: tuple[str, ...]
    volume_ml: dict[str, dict[str, float]]

    @property
    def mean_dice(self) -> float:
        """Mean over the scored classes; NaN if there is none."""
        return nan_mean(self.dice.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is not replaced."""
        return dict(
            dice=self.dice, hd95_mm=self.hd95_mm, asd_mm=self.asd_mm, missed=list(self.missed), volume_ml=self.volume_ml
        )


@dataclass(frozen=True)
class MeanScore:
    """Means over subjects by class name.

    Attributes
    ----------
    dice, hd95_mm, asd_mm : dict. Mean over the subjects where the value is defined; NaN if there is none.
    n : dict. Number of subjects with the class in truth or prediction: those of the mean Dice.
    missed : dict. Number of those with the class in only one of the two; the mean distances are over n - missed.
    """

    dice: dict[str, float]
    hd95_mm: dict[str, float]
    asd_mm: dict[str, float]
    n: dict[str, int]
    missed: dict[str, int]

    @property
    def mean_dice(self) -> float:
        """Mean over classes of the mean Dice; NaN if no class is scored."""
        return nan_mean(self.dice.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is not replaced."""
        return dict(dice=self.dice, hd95_mm=self.hd95_mm, asd_mm=self.asd_mm, n=self.n, missed=self.missed)


def dice_per_class(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Dice of every class.

    Parameters
    ----------
    truth, prediction : ndarray, integer or bool, same shape. Class indices 0 to classes - 1, or ignored in the truth.
    classes : int. Number of classes, background included.

    Returns
    -------
    ndarray, float64, shape (class,). Background first; NaN for a class absent from both, 0 for one absent from one.

    Raises
    ------
    ValueError
        If the shapes differ, or an index is out of range.
    """
    confusion = _confusion(truth, prediction, classes)
    tp = np.diag(confusion)
    return dice_from_counts(tp, confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp)


def dice_from_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """Dice from true positives, false positives and false negatives; float64 of their shape, NaN where all are 0."""
    total = 2 * tp + fp + fn
    return np.divide(2 * tp, total, out=np.full(total.shape, np.nan), where=total > 0)


def surface_distances(truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm) -> SurfaceDistances:
    """HD95 and ASD of two masks.

    Parameters
    ----------
    truth, prediction : ndarray, bool, shape (i, j, k).
    voxel_mm : as in :func:`score_subject`.

    Returns
    -------
    SurfaceDistances. NaN where a mask is empty.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"expected masks of one shape, got {truth.shape} and {prediction.shape}")
    axes_mm = _axes_mm(voxel_mm)
    if not truth.any() or not prediction.any():
        return SurfaceDistances(math.nan, math.nan)
    box = _bounding_box(truth | prediction)
    surfaces = _surface(truth[box]), _surface(prediction[box])
    directed = [_nearest_mm(surface, other, axes_mm) for surface, other in (surfaces, surfaces[::-1])]
    hd95 = max(np.percentile(d, PERCENTILE) for d in directed)
    return SurfaceDistances(float(hd95), float(np.concatenate(directed).mean()))


def score_subject(
    truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm, class_names: Sequence[str]
) -> SubjectScore:
    """Score the prediction of one whole volume.

    Parameters
    ----------
    truth, prediction : ndarray, integer, shape (i, j, k). Class indices.
    voxel_mm : sequence of float, or ndarray of shape (3, 3). Voxel size along i, j, k; or the steps to the neighbouring
        voxel along i, j, k as columns (:attr:`core.imaging.geometry.Geometry.axes_mm`), which need not be at right
        angles.
    class_names : sequence of str. Classes in index order; the first is the background and is not scored.

    Returns
    -------
    SubjectScore.

    Raises
    ------
    ValueError
        If the shapes differ, an index is out of range, or the voxel size is not three positive numbers or steps.
    """
    axes_mm = _axes_mm(voxel_mm)
    confusion = _confusion(truth, prediction, len(class_names))
    in_truth, in_prediction = confusion.sum(1), confusion.sum(0)
    prediction = leave_out_ignored(truth, prediction)
    voxel_ml = abs(float(np.linalg.det(axes_mm))) / 1000
    dice, hd95_mm, asd_mm = {}, {}, {}
    volume_ml, missed = {}, []
    for index, name in list(enumerate(class_names))[1:]:
        total = int(in_truth[index] + in_prediction[index])
        distances = surface_distances(truth == index, prediction == index, axes_mm)
        dice[name] = 2 * int(confusion[index, index]) / total if total else math.nan
        hd95_mm[name] = distances.hd95_mm
        asd_mm[name] = distances.asd_mm
        volume_ml[name] = dict(truth=int(in_truth[index]) * voxel_ml, prediction=int(in_prediction[index]) * voxel_ml)
        if total and not (in_truth[index] and in_prediction[index]):
            missed.append(name)
    return SubjectScore(dice, hd95_mm, asd_mm, tuple(missed), volume_ml)


def summarise(scores: Sequence[SubjectScore]) -> MeanScore:
    """Mean over subjects by class; empty for no subjects."""
    names = list(dict.fromkeys(name for score in scores for name in score.dice))
    return MeanScore(
        dice={name: nan_mean(s.dice.get(name, math.nan) for s in scores) for name in names},
        hd95_mm={name: nan_mean(s.hd95_mm.get(name, math.nan) for s in scores) for name in names},
        asd_mm={name: nan_mean(s.asd_mm.get(name, math.nan) for s in scores) for name in names},
        n={name: sum(not math.isnan(s.dice.get(name, math.nan)) for s in scores) for name in names},
        missed={name: sum(name in s.missed for s in scores) for name in names},
    )


def nan_mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    defined = [v for v in values if not math.isnan(v)]
    return sum(defined) / len(defined) if defined else math.nan


def _confusion(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix: voxels by class of truth (rows) and prediction (columns), int64, shape (class, class); ignored
    voxels are left out."""
    if truth.shape != prediction.shape:
        raise ValueError(f"expected truth and prediction of one shape, got {truth.shape} and {prediction.shape}")
    ignored = truth == IGNORE_INDEX
    if ignored.any():
        truth, prediction = truth[~ignored], prediction[~ignored]
    for name, labels in (("truth", truth), ("prediction", prediction)):
        if labels.dtype.kind not in "bui":
            raise ValueError(f"expected integer class indices as {name}, got {labels.dtype}")
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(
                f"expected class indices 0 to {classes - 1} as {name}, got {labels.min()} to {labels.max()}"
            )
    pairs = truth.astype(np.intp).ravel() * classes + prediction.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _axes_mm(voxel_mm: VoxelMm) -> np.ndarray:
    """Steps along i, j, k in mm as columns, float64, shape (3, 3).

    Raises
    ------
    ValueError
        If there are not three, or one has no length.
    """
    given = np.asarray(voxel_mm, np.float64)
    axes = np.diag(given) if given.shape == (3,) else given
    positive = given.shape == (3, 3) or bool((given > 0).all())
    if axes.shape != (3, 3) or not positive or not np.isfinite(axes).all() or abs(np.linalg.det(axes)) == 0:
        raise ValueError(f"expected three positive voxel sizes, or three steps in mm, got {given.tolist()}")
    return axes


def _nearest_mm(surface: np.ndarray, other: np.ndarray, axes_mm: np.ndarray) -> np.ndarray:
    """Distance from each voxel of a mask to the nearest one of another, both of them not empty."""
    from scipy import ndimage, spatial

    if shear_deg(axes_mm) <= SHEAR_TOLERANCE_DEG:
        distances = ndimage.distance_transform_edt(~other, sampling=np.linalg.norm(axes_mm, axis=0))
        return np.asarray(distances)[surface]
    points, targets = (np.argwhere(mask) @ axes_mm.T for mask in (surface, other))
    return np.asarray(spatial.cKDTree(targets).query(points)[0])


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Bounding box of a non-empty mask."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        indices = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return tuple(box)


def _surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask that a 6-connected erosion removes; the outside of the array is empty."""
    padded = np.pad(mask, 1)
    eroded = mask.copy()
    for axis in range(mask.ndim):
        for shift in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(shift, shift + mask.shape[axis])
            eroded &= padded[tuple(window)]
    return mask & ~eroded
