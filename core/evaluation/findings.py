"""What a reviewer looks for in a segmented subject: regions of errors, and lesions that are missed or false."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.datasets import Dataset, load_subject
from core.datasets.loading import class_mapping
from core.errors import DatasetError, VolumeError
from core.evaluation.error_regions import Disagreement, ErrorRegions
from core.evaluation.lesions import LesionScore, score_lesions
from core.evaluation.surfaces import VoxelMm
from core.formatting import format_size
from core.imaging.volume import read_label
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
    """

    classes: tuple[str, ...]
    errors: ErrorRegions
    with_border: ErrorRegions
    lesions: dict[str, LesionScore]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "classes": list(self.classes),
            "errors": self.errors.to_json(),
            "with_border": self.with_border.to_json(),
            "lesions": {name: score.to_json() for name, score in self.lesions.items()},
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
    return Findings(classes, wrong.regions(), wrong.regions(with_border=True), several)


def subject_findings(dataset: Dataset, subject: str, labels: LabelSpace, prediction: Path) -> Findings:
    """The findings in a stored prediction of a subject of a data set.

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
    loaded = load_subject(dataset, subject)
    if loaded.label is None:
        raise DatasetError(f"{subject}: expected a label map to compare with, found none; choose a labelled subject")
    truth = class_mapping(dataset.labels.names, labels.names)[loaded.label]
    predicted = labels.to_index(read_label(prediction).data[0])
    if predicted.shape != truth.shape:
        raise VolumeError(
            f"{prediction}: expected a segmentation of {format_size(truth.shape)} voxels like the image, found "
            f"{format_size(predicted.shape)}; segment the image again"
        )
    return find_errors(truth, predicted, loaded.geometry.axes_mm, labels.names)
