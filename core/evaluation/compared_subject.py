"""A subject with a stored prediction, in the classes of the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets import Dataset, LoadedSubject, load_subject
from core.datasets.loading import class_mapping
from core.errors import DatasetError, VolumeError
from core.formatting import format_size
from core.imaging.volume import read_label
from core.labels import LabelSpace


@dataclass(frozen=True)
class ComparedSubject:
    """A subject and its prediction.

    Attributes
    ----------
    loaded : LoadedSubject. The subject as read.
    truth : ndarray, uint8, shape (i, j, k), or None. Class indices of the reference; ``None`` without one.
    prediction : ndarray, uint8, shape (i, j, k). Class indices.
    labels : LabelSpace. The classes of both.
    """

    loaded: LoadedSubject
    truth: np.ndarray | None
    prediction: np.ndarray
    labels: LabelSpace

    @property
    def known_truth(self) -> np.ndarray:
        """The class indices of the reference.

        Raises
        ------
        DatasetError
            If there is none.
        """
        if self.truth is None:
            id = self.loaded.id
            raise DatasetError(f"{id}: expected a label map to compare with, found none; choose a labelled subject")
        return self.truth


def read_compared(dataset: Dataset, subject: str, labels: LabelSpace, prediction: Path) -> ComparedSubject:
    """Read a subject of a data set and a stored prediction of it.

    Parameters
    ----------
    labels : LabelSpace. Classes of the prediction; other classes of the reference are background.
    prediction : Path. Label map with the raw values of ``labels``, on the subject's grid.

    Raises
    ------
    VolumeError
        If a file cannot be read, or the prediction has another size than the subject.
    """
    loaded = load_subject(dataset, subject)
    predicted = labels.to_index(read_label(prediction).data[0])
    if predicted.shape != loaded.geometry.shape:
        raise VolumeError(
            f"{prediction}: expected a segmentation of {format_size(loaded.geometry.shape)} voxels like the image, "
            f"found {format_size(predicted.shape)}; segment the image again"
        )
    to_prediction = class_mapping(dataset.labels.names, labels.names)
    truth = None if loaded.label is None else to_prediction[loaded.label]
    return ComparedSubject(loaded, truth, predicted, labels)
