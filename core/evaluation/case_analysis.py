"""Measures of a case that need its voxels: confusion between classes, surface distances, errors near class borders.

confusion          voxels by class of the reference (rows) and of the prediction (columns), of the whole volume.
surface distances  of every class, from each surface voxel of the reference to the surface of the prediction and back
                   (:func:`core.evaluation.surfaces.directed_mm`), in steps of :data:`STEP_MM`.
border distances   of every voxel, the distance in mm to the nearest voxel of another class in the reference: how many
                   voxels there are at each distance, and how many of them are wrong, by class of the reference.

Counts add up over cases. Voxels with the ignore label in the reference count for nothing, and are no border.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation.metrics import confusion_matrix
from core.evaluation.surfaces import ROUNDING, VoxelMm, axes_mm_of, bounding_box, directed_mm, nearest_mm
from core.labels import IGNORE_INDEX, leave_out_ignored

STEP_MM, STEPS = 0.5, 60  # of surface distances; one more step counts those beyond
BORDER_MM = 20  # up to which distances to a border are counted in steps of 1 mm; one more step counts those beyond


@dataclass(frozen=True)
class SurfaceCounts:
    """Surface voxels of a class by their distance to the other surface.

    Attributes
    ----------
    truth, prediction : ndarray, int64, shape (STEPS + 1,). Of the reference's surface, and of the prediction's; step n
        counts distances from ``n * STEP_MM`` to below ``(n + 1) * STEP_MM``.
    largest_mm : float. Largest distance of either; NaN without any.
    """

    truth: np.ndarray
    prediction: np.ndarray
    largest_mm: float


@dataclass(frozen=True)
class BorderCounts:
    """Voxels of a class of the reference by their distance to another class.

    Attributes
    ----------
    voxels, wrong : ndarray, int64, shape (BORDER_MM + 1,). All voxels, and those that are wrong; step n counts
        distances above n mm up to ``n + 1`` mm.
    """

    voxels: np.ndarray
    wrong: np.ndarray


@dataclass(frozen=True)
class CaseAnalysis:
    """Counts of a case, or of several.

    Attributes
    ----------
    classes : tuple of str. Names by class index, background first.
    confusion : ndarray, int64, shape (class, class). Voxels by class of reference and prediction.
    confusion_ml : ndarray, float64, shape (class, class). Their volume.
    surface : dict. Surface distances by class; only classes that reference and prediction both have.
    border : dict. Border distances by class of the reference, background included.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    confusion_ml: np.ndarray
    surface: dict[str, SurfaceCounts]
    border: dict[str, BorderCounts]

    @property
    def confusion_percent(self) -> np.ndarray:
        """Share of each class of the reference that was taken for each class, in percent; NaN in the row of a class
        that the reference lacks."""
        total = self.confusion.sum(axis=1, keepdims=True)
        return np.divide(100.0 * self.confusion, total, out=np.full(self.confusion.shape, np.nan), where=total > 0)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "confusion_ml": self.confusion_ml.tolist(),
            "surface": {
                name: {"truth": c.truth.tolist(), "prediction": c.prediction.tolist(), "largest_mm": c.largest_mm}
                for name, c in self.surface.items()
            },
            "border": {n: {"voxels": c.voxels.tolist(), "wrong": c.wrong.tolist()} for n, c in self.border.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CaseAnalysis:
        """The inverse of :meth:`to_json`."""
        surface = {
            name: SurfaceCounts(_counts(c["truth"]), _counts(c["prediction"]), float(c["largest_mm"]))
            for name, c in data["surface"].items()
        }
        border = {n: BorderCounts(_counts(c["voxels"]), _counts(c["wrong"])) for n, c in data["border"].items()}
        confusion_ml = np.asarray(data["confusion_ml"], np.float64)
        return cls(tuple(data["classes"]), _counts(data["confusion"]), confusion_ml, surface, border)


def analyse_case(
    truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm, classes: tuple[str, ...]
) -> CaseAnalysis:
    """Analyse a case.

    Parameters
    ----------
    truth, prediction, voxel_mm : as in :func:`core.evaluation.metrics.score_subject`.
    classes : tuple of str. Names by class index, background first.

    Raises
    ------
    ValueError
        If the shapes differ, an index is out of range, or the voxel size is not three positive numbers or steps.
    """
    axes_mm = axes_mm_of(voxel_mm)
    confusion = confusion_matrix(truth, prediction, len(classes))
    scored = leave_out_ignored(truth, prediction)
    surface = {}
    for index, name in list(enumerate(classes))[1:]:
        directed = directed_mm(truth == index, scored == index, axes_mm)
        if directed:
            ways = [_surface_steps(distances) for distances in directed]
            surface[name] = SurfaceCounts(ways[0], ways[1], max(float(d.max()) for d in directed))
    border = {}
    for index, name in enumerate(classes):
        if (truth == index).any():
            border[name] = _border_counts(truth, truth != scored, index, axes_mm)
    voxel_ml = abs(float(np.linalg.det(axes_mm))) / 1000
    return CaseAnalysis(classes, confusion, confusion * voxel_ml, surface, border)


def pool(analyses: Iterable[CaseAnalysis]) -> CaseAnalysis | None:
    """The counts of several cases with the same classes together; ``None`` for none."""
    found = list(analyses)
    if not found:
        return None
    surface, border = {}, {}
    for name in found[0].classes:
        of_surface = [a.surface[name] for a in found if name in a.surface]
        if of_surface:
            truth, prediction = (
                np.sum([getattr(c, way) for c in of_surface], axis=0) for way in ("truth", "prediction")
            )
            surface[name] = SurfaceCounts(truth, prediction, max(c.largest_mm for c in of_surface))
        of_border = [a.border[name] for a in found if name in a.border]
        if of_border:
            voxels, wrong = (np.sum([getattr(c, kind) for c in of_border], axis=0) for kind in ("voxels", "wrong"))
            border[name] = BorderCounts(voxels, wrong)
    confusion, confusion_ml = (np.sum([getattr(a, n) for a in found], axis=0) for n in ("confusion", "confusion_ml"))
    return CaseAnalysis(found[0].classes, confusion, confusion_ml, surface, border)


def _counts(values: Any) -> np.ndarray:
    return np.asarray(values, np.int64)


def _surface_steps(distances_mm: np.ndarray) -> np.ndarray:
    """Numbers of distances in steps of :data:`STEP_MM`; voxel sizes in files are rounded, and so is 1 mm."""
    steps = np.floor(distances_mm * (1 + ROUNDING) / STEP_MM).astype(np.int64).clip(max=STEPS)
    return np.bincount(steps, minlength=STEPS + 1)


def _border_counts(truth: np.ndarray, is_wrong: np.ndarray, index: int, axes_mm: np.ndarray) -> BorderCounts:
    """The voxels of a class by their distance to another one; those beyond :data:`BORDER_MM` are counted without it."""
    own, other = truth == index, (truth != index) & (truth != IGNORE_INDEX)
    voxels, wrong = np.zeros(BORDER_MM + 1, np.int64), np.zeros(BORDER_MM + 1, np.int64)
    # Of axes that are not at right angles, a step leads less far from a plane of voxels than it is long.
    reach = [math.ceil((BORDER_MM + 1) * per_mm) for per_mm in np.linalg.norm(np.linalg.inv(axes_mm), axis=1)]
    box = _shared_box(own, other, reach) if other.any() else ()
    if box and own[box].any() and other[box].any():
        near = own[box]
        distances = nearest_mm(near, other[box], axes_mm)
        steps = np.ceil(distances / (1 + ROUNDING)).astype(np.int64).clip(1, BORDER_MM + 1) - 1
        voxels += np.bincount(steps, minlength=BORDER_MM + 1)
        wrong += np.bincount(steps[is_wrong[box][near]], minlength=BORDER_MM + 1)
    voxels[-1] += int(own.sum()) - int(voxels.sum())  # outside of the box: beyond the last step
    wrong[-1] += int((own & is_wrong).sum()) - int(wrong.sum())
    return BorderCounts(voxels, wrong)


def _shared_box(own: np.ndarray, other: np.ndarray, reach: Sequence[int]) -> tuple[slice, ...]:
    """The box of what is within a reach, in voxels along each axis, of both of two masks that are not empty."""
    sides = []
    for one, two, n in zip(bounding_box(own), bounding_box(other), reach, strict=True):
        start, stop = max(one.start, two.start) - n, min(one.stop, two.stop) + n
        sides.append(slice(max(0, start), max(0, start, stop)))
    return tuple(sides)
