"""What a reviewer looks for in a segmented subject: regions of errors, confused classes, Dice per slice, lesions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.datasets import Dataset
from core.evaluation.compared_subject import read_compared_labels
from core.evaluation.error_regions import Disagreement, ErrorRegions
from core.evaluation.lesions import LesionScore, score_lesions
from core.evaluation.surfaces import VoxelMm
from core.evaluation.voxel_counts import VoxelCounts, count_voxels
from core.labels import LabelSpace, leave_out_ignored


@dataclass(frozen=True)
class Findings:
    """Findings in one subject.

    Attributes
    ----------
    classes : tuple of str. Class names by their indices, background first.
    errors : ErrorRegions. Regions without the border errors between them.
    with_border : ErrorRegions. Components of all wrong voxels.
    lesions : dict. Lesion-wise scores by class; only of classes that come as several components.
    counts : VoxelCounts. Voxels by pair of classes and by slice.
    """

    classes: tuple[str, ...]
    errors: ErrorRegions
    with_border: ErrorRegions
    lesions: dict[str, LesionScore]
    counts: VoxelCounts

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "classes": list(self.classes),
            "errors": self.errors.to_json(),
            "with_border": self.with_border.to_json(),
            "lesions": {name: score.to_json() for name, score in self.lesions.items()},
            **self.counts.to_json(),
        }


def find_errors(truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm, classes: tuple[str, ...]) -> Findings:
    """The findings in a prediction.

    Parameters
    ----------
    truth, prediction, voxel_mm : as in :func:`core.evaluation.metrics.score_subject`.
    classes : tuple of str. Class names by their indices, background first.

    Raises
    ------
    ValueError
        If the shapes differ, or the voxel size is not three positive numbers or steps.
    """
    wrong = Disagreement(truth, prediction, voxel_mm)
    scored = leave_out_ignored(truth, prediction)
    lesions = {
        name: score_lesions(truth == index, scored == index, voxel_mm) for index, name in list(enumerate(classes))[1:]
    }
    several = {name: score for name, score in lesions.items() if score is not None}
    counts = count_voxels(truth, prediction, len(classes))
    return Findings(classes, wrong.regions(), wrong.regions(with_border=True), several, counts)


def subject_findings(dataset: Dataset, subject: str, labels: LabelSpace, prediction: Path) -> Findings:
    """The findings in a stored prediction of a subject of a data set, whose image is not read.

    Parameters
    ----------
    labels : LabelSpace. Classes of the prediction; other classes of the truth are background.
    prediction : Path. Label map with the raw values of ``labels``, on the subject's grid.

    Raises
    ------
    DatasetError
        If the subject has no label map.
    VolumeError
        If a file cannot be read, or the prediction has another size than the subject.
    """
    truth, predicted, geometry = read_compared_labels(dataset, subject, labels, prediction)
    return find_errors(truth, predicted, geometry.axes_mm, labels.names)
