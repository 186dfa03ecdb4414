"""Scores of a whole volume: Dice, surface distances and normalised surface Dice per foreground class.

Dice          2 |T and P| / (|T| + |P|) of the truth's and the prediction's voxels.
HD95          the larger of the two directed 95th percentiles of surface distances, in mm (numpy's linear
              interpolation).
ASD           the mean of the surface distances in both directions, pooled (each surface voxel counts once), in mm.
surface Dice  the share of the surface voxels of both whose distance is within a tolerance in mm (Nikolov et al. 2018,
              with voxels in place of surface elements), for several tolerances.

Surfaces and distances are those of :mod:`core.evaluation.surfaces`; volumes are by the same axes.

A class absent from both truth and prediction is not scored (NaN). A class absent from one of them has Dice and surface
Dice 0, no distances (NaN), and is listed in ``missed``. Means leave NaN out and carry the number of values.

Voxels with the ignore label in the truth (:data:`core.labels.IGNORE_INDEX`) are as outside of the volume: they belong
to no class of truth or prediction, and count for no score and no volume.

At import the module needs only numpy; scipy is imported on first use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from core.evaluation.surfaces import VoxelMm, axes_mm_of, directed_mm, distances_of, surface_dice_of
from core.labels import IGNORE_INDEX, leave_out_ignored
from core.regions import RegionSpace

if TYPE_CHECKING:
    from core.checkpointing.metadata import CheckpointMetadata


@dataclass(frozen=True)
class ScoredNames:
    """The classes and unions of classes that have scores, and those that count for the mean.

    Attributes
    ----------
    names : tuple of str. Classes without the background, then unions of classes (:mod:`core.regions`).
    classes : int. How many of them are classes.
    in_mean : tuple of str. Those of the mean: the classes, or the regions of a network that is trained on regions.
    """

    names: tuple[str, ...]
    classes: int
    in_mean: tuple[str, ...]

    @classmethod
    def of(cls, class_names: Sequence[str], regions: RegionSpace | None, trained_on_regions: bool) -> ScoredNames:
        """Those of a network with these classes, background first."""
        foreground = tuple(class_names[1:])
        unions = None if regions is None else regions.unions
        names = (*foreground, *(() if unions is None else unions.names))
        in_mean = regions.names if regions is not None and trained_on_regions else foreground
        return cls(names, len(foreground), in_mean)

    @classmethod
    def of_checkpoint(cls, metadata: CheckpointMetadata) -> ScoredNames:
        """Those of the network of a checkpoint."""
        return cls.of(metadata.label_space.names, metadata.regions, metadata.trained_regions is not None)

    def mean(self, values: Mapping[str, float]) -> float:
        """Mean of the values by name that count; NaN left out."""
        return nan_mean(values[name] for name in self.in_mean)


@dataclass(frozen=True)
class SubjectScore:
    """Scores of one subject by name of class, background left out, or of union of classes.

    Attributes
    ----------
    dice, hd95_mm, asd_mm : dict. Value by name; NaN where undefined.
    missed : tuple of str. Names present in only one of truth and prediction.
    volume_ml : dict. ``{"truth": ..., "prediction": ...}`` by class.
    surface_dice : dict. Surface Dice by tolerance (:func:`tolerance_key`) by class; empty where a version before this
        score was known has scored.
    in_mean : tuple of str. Names that count for the mean; empty for all.
    """

    dice: dict[str, float]
    hd95_mm: dict[str, float]
    asd_mm: dict[str, float]
    missed: tuple[str, ...]
    volume_ml: dict[str, dict[str, float]]
    surface_dice: dict[str, dict[str, float]] = field(default_factory=dict)
    in_mean: tuple[str, ...] = ()

    @property
    def mean_dice(self) -> float:
        """Mean over the scored classes, or regions; NaN if there is none."""
        return nan_mean(self.dice.get(name, math.nan) for name in self.counted)

    @property
    def counted(self) -> tuple[str, ...]:
        """Names that count for the mean."""
        return self.in_mean or tuple(self.dice)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is not replaced."""
        return dict(
            dice=self.dice,
            hd95_mm=self.hd95_mm,
            asd_mm=self.asd_mm,
            missed=list(self.missed),
            volume_ml=self.volume_ml,
            surface_dice=self.surface_dice,
            **({"in_mean": list(self.in_mean)} if self.in_mean else {}),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SubjectScore:
        """The inverse of :meth:`to_json`; ``None`` is NaN."""

        def numbers(values: Mapping[str, Any]) -> dict[str, float]:
            return {str(name): math.nan if value is None else float(value) for name, value in values.items()}

        return cls(
            numbers(data["dice"]),
            numbers(data["hd95_mm"]),
            numbers(data["asd_mm"]),
            tuple(str(name) for name in data["missed"]),
            {str(name): numbers(volumes) for name, volumes in data["volume_ml"].items()},
            {str(name): numbers(shares) for name, shares in data.get("surface_dice", {}).items()},
            tuple(str(name) for name in data.get("in_mean", ())),
        )


@dataclass(frozen=True)
class MeanScore:
    """Means over subjects by class name.

    Attributes
    ----------
    dice, hd95_mm, asd_mm : dict. Mean over the subjects where the value is defined; NaN if there is none.
    n : dict. Number of subjects with the class in truth or prediction: those of the mean Dice.
    missed : dict. Number of those with the class in only one of the two; the mean distances are over n - missed.
    surface_dice : dict. Mean surface Dice by tolerance by class; without the tolerances for which a subject has none.
    in_mean : tuple of str. Names that count for the mean; empty for all.
    """

    dice: dict[str, float]
    hd95_mm: dict[str, float]
    asd_mm: dict[str, float]
    n: dict[str, int]
    missed: dict[str, int]
    surface_dice: dict[str, dict[str, float]] = field(default_factory=dict)
    in_mean: tuple[str, ...] = ()

    @property
    def mean_dice(self) -> float:
        """Mean over classes, or regions, of the mean Dice; NaN if no class is scored."""
        return nan_mean(self.dice.get(name, math.nan) for name in self.in_mean or self.dice)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is not replaced."""
        return dict(
            dice=self.dice,
            hd95_mm=self.hd95_mm,
            asd_mm=self.asd_mm,
            n=self.n,
            missed=self.missed,
            surface_dice=self.surface_dice,
            **({"in_mean": list(self.in_mean)} if self.in_mean else {}),
        )


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
    confusion = confusion_matrix(truth, prediction, classes)
    tp = np.diag(confusion)
    return dice_from_counts(tp, confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp)


def dice_from_counts(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """Dice from true positives, false positives and false negatives; float64 of their shape, NaN where all are 0."""
    total = 2 * tp + fp + fn
    return np.divide(2 * tp, total, out=np.full(total.shape, np.nan), where=total > 0)


def score_subject(
    truth: np.ndarray,
    prediction: np.ndarray,
    voxel_mm: VoxelMm,
    class_names: Sequence[str],
    regions: RegionSpace | None = None,
    in_mean: tuple[str, ...] = (),
) -> SubjectScore:
    """Score the prediction of one whole volume.

    Parameters
    ----------
    truth, prediction : ndarray, integer, shape (i, j, k). Class indices.
    voxel_mm : sequence of float, or ndarray of shape (3, 3). Voxel size along i, j, k; or the steps to the neighbouring
        voxel along i, j, k as columns (:attr:`core.imaging.geometry.Geometry.axes_mm`), which need not be at right
        angles.
    class_names : sequence of str. Classes in index order; the first is the background and is not scored.
    regions : RegionSpace, optional. Regions of these classes; unions of classes are scored after the classes.
    in_mean : tuple of str. Names that count for the mean; empty for all.

    Returns
    -------
    SubjectScore.

    Raises
    ------
    ValueError
        If the shapes differ, an index is out of range, or the voxel size is not three positive numbers or steps.
    """
    axes_mm = axes_mm_of(voxel_mm)
    confusion = confusion_matrix(truth, prediction, len(class_names))
    prediction = leave_out_ignored(truth, prediction)
    voxel_ml = abs(float(np.linalg.det(axes_mm))) / 1000
    dice, hd95_mm, asd_mm, surface_dice = {}, {}, {}, {}
    volume_ml, missed = {}, []
    scored: dict[str, tuple[int, ...]] = {name: (index,) for index, name in list(enumerate(class_names))[1:]}
    if regions is not None and regions.unions is not None:
        scored |= dict(zip(regions.unions.names, regions.unions.members, strict=True))
    for name, members in scored.items():
        in_truth, in_prediction = int(confusion[members, :].sum()), int(confusion[:, members].sum())
        total = in_truth + in_prediction
        directed = directed_mm(_union(truth, members), _union(prediction, members), axes_mm)
        distances = distances_of(directed)
        dice[name] = 2 * int(confusion[np.ix_(members, members)].sum()) / total if total else math.nan
        hd95_mm[name] = distances.hd95_mm
        asd_mm[name] = distances.asd_mm
        surface_dice[name] = surface_dice_of(directed, is_absent=not total)
        volume_ml[name] = dict(truth=in_truth * voxel_ml, prediction=in_prediction * voxel_ml)
        if total and not (in_truth and in_prediction):
            missed.append(name)
    return SubjectScore(dice, hd95_mm, asd_mm, tuple(missed), volume_ml, surface_dice, in_mean)


def summarise(scores: Sequence[SubjectScore]) -> MeanScore:
    """Mean over subjects by class; empty for no subjects."""
    names = list(dict.fromkeys(name for score in scores for name in score.dice))
    return MeanScore(
        dice={name: nan_mean(s.dice.get(name, math.nan) for s in scores) for name in names},
        hd95_mm={name: nan_mean(s.hd95_mm.get(name, math.nan) for s in scores) for name in names},
        asd_mm={name: nan_mean(s.asd_mm.get(name, math.nan) for s in scores) for name in names},
        n={name: sum(not math.isnan(s.dice.get(name, math.nan)) for s in scores) for name in names},
        missed={name: sum(name in s.missed for s in scores) for name in names},
        surface_dice={name: _mean_surface_dice(scores, name) for name in names},
        in_mean=next((score.in_mean for score in scores if score.in_mean), ()),
    )


def nan_mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    defined = [v for v in values if not math.isnan(v)]
    return sum(defined) / len(defined) if defined else math.nan


def _mean_surface_dice(scores: Sequence[SubjectScore], name: str) -> dict[str, float]:
    """Mean surface Dice of a class by tolerance, for the tolerances of all subjects that have the class."""
    found = [score.surface_dice.get(name, {}) for score in scores if name in score.dice]
    shared = [key for key in found[0] if all(key in values for values in found)]
    return {key: nan_mean(values[key] for values in found) for key in shared}


def _union(labels: np.ndarray, members: Sequence[int]) -> np.ndarray:
    """Whether the class of each voxel is one of some, bool, of the same shape."""
    inside = labels == members[0]
    for index in members[1:]:
        inside |= labels == index
    return inside


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
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
