"""Preparation of images for a network: channels, voxel size, intensities."""

from __future__ import annotations

import numpy as np

from core.datasets.layouts.base import Dataset
from core.datasets.loading import LoadedSubject, load_subject
from core.errors import DatasetError
from core.imaging.content import content_box
from core.imaging.normalise import Normaliser
from core.imaging.resample import resample_image, resample_label
from core.types import SpacingMm, TrainingSubject


def prepare_image(
    image: np.ndarray, spacing_mm: SpacingMm, normaliser: Normaliser, target_mm: SpacingMm | None
) -> np.ndarray:
    """Resample and normalise an image.

    Parameters
    ----------
    image : ndarray, shape (channel, i, j, k). Intensities in canonical RAS.
    spacing_mm : tuple of float. Voxel size of the image.
    normaliser : Normaliser. Intensity normalisation of the channels.
    target_mm : tuple of float or None. Working voxel size; ``None`` keeps that of the image.

    Returns
    -------
    ndarray, float32, shape (channel, i, j, k).
    """
    if target_mm is not None and not np.allclose(spacing_mm, target_mm, rtol=1e-3):
        image = resample_image(image, spacing_mm, target_mm)
    return normaliser(image)


def prepare_subject(
    dataset: Dataset,
    subject_id: str,
    modalities: tuple[str, ...],
    classes: tuple[str, ...],
    normaliser: Normaliser,
    target_mm: SpacingMm | None,
) -> TrainingSubject:
    """Read one subject and prepare image and label map for training.

    Parameters
    ----------
    dataset, subject_id, modalities, classes : as in :func:`core.datasets.load_subject`.
    normaliser, target_mm : as in :func:`prepare_image`.

    Raises
    ------
    DatasetError
        If the subject has no label map.
    VolumeError
        If a file cannot be used.
    """
    return prepare_loaded(load_subject(dataset, subject_id, modalities, classes), normaliser, target_mm)


def prepare_loaded(
    loaded: LoadedSubject, normaliser: Normaliser, target_mm: SpacingMm | None, crop: bool = False
) -> TrainingSubject:
    """Prepare image and label map of a subject for training.

    Parameters
    ----------
    loaded : LoadedSubject. The subject as read.
    normaliser, target_mm : as in :func:`prepare_image`.
    crop : bool. Whether margins in which all images are 0 are left out, as far as nothing is labelled there.

    Raises
    ------
    DatasetError
        If the subject has no label map.
    """
    if loaded.label is None:
        raise DatasetError(f"subject {loaded.id}: expected a label file, found none; training needs one")
    spacing_mm = loaded.geometry.spacing_mm
    image, label = loaded.image, loaded.label
    if crop:
        box = content_box(image, label)
        image, label = image[:, *box], label[box]
    image = prepare_image(image, spacing_mm, normaliser, target_mm)
    if image.shape[1:] != label.shape:
        label = resample_label(label, image.shape[1:])
    return TrainingSubject(loaded.id, image, label, spacing_mm if target_mm is None else target_mm)
