"""A subject with a stored prediction, in the classes of the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets import Dataset, LoadedSubject, load_subject
from core.datasets.loading import class_mapping, load_label
from core.errors import DatasetError, VolumeError
from core.formatting import format_size
from core.imaging.geometry import Geometry
from core.imaging.volume import read_label
from core.labels import LabelSpace
from core.types import Size3


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
            raise _without_label(self.loaded.id)
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
    predicted = _read_prediction(prediction, labels, loaded.geometry.shape)
    to_prediction = class_mapping(dataset.labels.names, labels.names)
    truth = None if loaded.label is None else to_prediction[loaded.label]
    return ComparedSubject(loaded, truth, predicted, labels)


def read_compared_labels(
    dataset: Dataset, subject: str, labels: LabelSpace, prediction: Path
) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """The class indices of reference and prediction, and their canonical geometry, without reading the image.

    Parameters
    ----------
    labels, prediction : as for :func:`read_compared`.

    Raises
    ------
    DatasetError
        If the subject has no label map.
    VolumeError
        As for :func:`read_compared`.
    """
    label, geometry = load_label(dataset, subject)
    if label is None:
        raise _without_label(subject)
    predicted = _read_prediction(prediction, labels, geometry.shape)
    return class_mapping(dataset.labels.names, labels.names)[label], predicted, geometry


def _read_prediction(file: Path, labels: LabelSpace, shape: Size3) -> np.ndarray:
    """The class indices of a prediction, which must have the shape of the image."""
    predicted = labels.to_index(read_label(file).data[0])
    if predicted.shape != shape:
        raise VolumeError(
            f"{file}: expected a segmentation of {format_size(shape)} voxels like the image, "
            f"found {format_size(predicted.shape)}; segment the image again"
        )
    return predicted


def _without_label(subject: str) -> DatasetError:
    return DatasetError(f"{subject}: expected a label map to compare with, found none; choose a labelled subject")
