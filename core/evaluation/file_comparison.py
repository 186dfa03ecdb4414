"""Compares the two segmentations of a case of files: scores, errors, and signs that they are mirrored or misnamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from core.datasets.file_case import REFERENCE, SEGMENTATION, FileCase, read_segmentation
from core.datasets.loading import read_first_geometry
from core.errors import DatasetError
from core.evaluation.findings import Findings, find_errors
from core.evaluation.metrics import SubjectScore, confusion_matrix, dice_from_counts, dice_per_class, score_subject
from core.formatting import format_score
from core.imaging.geometry import Geometry
from core.labels import IGNORE_INDEX

BETTER = 0.1  # mean Dice by which another reading agrees better, from which on it is reported
ALIKE = 0.3  # least Dice of two classes that may be one
AXES = ("left-right", "front-back", "up-down")  # of i, j, k in canonical order


@dataclass(frozen=True)
class FileComparison:
    """The comparison.

    Attributes
    ----------
    score : SubjectScore. Of the segmentation against the reference.
    findings : Findings or None. Regions of errors and lesion-wise scores; ``None`` where they were not asked for.
    warnings : tuple of str. What was assumed about the values, and what may make the scores meaningless.
    """

    score: SubjectScore
    findings: Findings | None
    warnings: tuple[str, ...]


def compare_files(case: FileCase, *, with_findings: bool = False) -> FileComparison:
    """Compare the segmentation of a case with its reference.

    Parameters
    ----------
    with_findings : bool. Whether errors and lesions are looked for.

    Raises
    ------
    DatasetError
        If it has only one segmentation, or one of them is not on the grid of the images.
    VolumeError
        If a file cannot be read.
    """
    missing = [role for role in (REFERENCE, SEGMENTATION) if role not in case.segmentations]
    if missing:
        raise DatasetError(f"{case.id}: expected a reference and a segmentation for scores, got no {missing[0]}")
    read = {role: read_segmentation(dataset) for role, dataset in case.segmentations.items()}
    truth, prediction = read[REFERENCE][0], read[SEGMENTATION][0]
    geometry = read_first_geometry(case.images, case.images.subjects[0]).canonical
    warnings = [text for _, of_role in read.values() for text in of_role]
    warnings += doubts(truth, prediction, case.labels.names, geometry)
    score = score_subject(truth, prediction, geometry.axes_mm, case.labels.names)
    findings = find_errors(truth, prediction, geometry.axes_mm, case.labels.names) if with_findings else None
    return FileComparison(score, findings, tuple(warnings))


def doubts(truth: np.ndarray, prediction: np.ndarray, classes: tuple[str, ...], geometry: Geometry) -> Iterator[str]:
    """Signs that two segmentations are not of the same place, or that their values are named differently.

    Parameters
    ----------
    truth, prediction : ndarray, uint8, shape (i, j, k). Class indices.
    classes : tuple of str. Names by index, background first.
    geometry : Geometry. Canonical geometry of both.

    Yields
    ------
    str. A sentence each: one is empty; it agrees better when it is mirrored along an axis; classes agree better with
    each other than with those of their own names.
    """
    from scipy.optimize import linear_sum_assignment

    empty = [name for name, of_role in ((REFERENCE, truth), (SEGMENTATION, prediction)) if not _is_labelled(of_role)]
    yield from (f"the {name} has no voxel of any class" for name in empty)
    if empty:
        return
    dice = _pairwise_dice(truth, prediction, len(classes))
    plain, present = np.nan_to_num(dice), ~np.isnan(np.diag(dice))
    agreement = _mean_of(np.diag(plain), present)
    rows, columns = linear_sum_assignment(plain, maximize=True)
    renamed = _mean_of(plain[rows, columns], present)
    mirrored = [_mirrored_agreement(truth, prediction, axis, present) for axis in range(len(AXES))]
    for axis, found in enumerate(mirrored):
        if found > agreement + BETTER and found > renamed - BETTER:
            which = AXES[axis] if geometry.oriented else f"along axis {axis + 1}"
            yield (
                f"the segmentation agrees much better when it is mirrored {which}: mean Dice {format_score(found)} "
                f"instead of {format_score(agreement)}; is one of the files mirrored?"
            )
    if renamed < max(mirrored) - BETTER:
        return
    names = classes[1:]
    for a, b in zip(rows.tolist(), columns.tolist(), strict=True):
        if a != b and plain[a, b] > max(ALIKE, plain[a, a] + BETTER):
            yield (
                f"{names[a]} of the reference lies where the segmentation has {names[b]}: Dice "
                f"{format_score(plain[a, b])} instead of {format_score(plain[a, a])}; are they one class? Give their "
                "values the same name"
            )


def _mirrored_agreement(truth: np.ndarray, prediction: np.ndarray, axis: int, present: np.ndarray) -> float:
    """Mean Dice of the classes with the prediction mirrored along an axis."""
    dice = dice_per_class(truth, np.flip(prediction, axis), len(present) + 1)[1:]
    return _mean_of(np.nan_to_num(dice), present)


def _mean_of(values: np.ndarray, counted: np.ndarray) -> float:
    return float(values[counted].mean()) if counted.any() else 0.0


def _pairwise_dice(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Dice of each class of the truth (rows) with each of the prediction (columns), background left out; NaN for two
    that are absent."""
    confusion = confusion_matrix(truth, prediction, classes)
    in_truth, in_prediction = confusion.sum(axis=1)[1:, None], confusion.sum(axis=0)[None, 1:]
    both = confusion[1:, 1:]
    return dice_from_counts(both, in_prediction - both, in_truth - both)


def _is_labelled(index: np.ndarray) -> bool:
    return bool(((index > 0) & (index != IGNORE_INDEX)).any())
