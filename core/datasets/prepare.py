"""Brings images to what a network expects: channels, voxel size, intensities."""

from __future__ import annotations

import numpy as np

from core.datasets import Dataset, load_subject
from core.errors import DatasetError
from core.imaging.normalise import normalise
from core.imaging.resample import resample_image, resample_label
from core.types import SpacingMm, TrainingSubject


def prepare_image(
    image: np.ndarray, spacing_mm: SpacingMm, normalisation: str, target_mm: SpacingMm | None
) -> np.ndarray:
    """Resample (channels, i, j, k) in RAS to ``target_mm`` (``None``: leave) and normalise it; float32."""
    if target_mm is not None and not np.allclose(spacing_mm, target_mm, rtol=1e-3):
        image = resample_image(image, spacing_mm, target_mm)
    return normalise(image, normalisation)


def prepare_subject(
    dataset: Dataset,
    subject_id: str,
    modalities: tuple[str, ...],
    classes: tuple[str, ...],
    normalisation: str,
    target_mm: SpacingMm | None,
) -> TrainingSubject:
    """Read one subject of a data set and prepare image and label for training.

    Raises
    ------
    DatasetError
        If the subject has no label.
    VolumeError
        If a file cannot be used.
    """
    loaded = load_subject(dataset, subject_id, modalities, classes)
    if loaded.label is None:
        raise DatasetError(f"subject {subject_id}: expected a label file, found none; training needs one")
    spacing = loaded.geometry.spacing_mm
    image = prepare_image(loaded.image, spacing, normalisation, target_mm)
    label = loaded.label
    if image.shape[1:] != label.shape:
        label = resample_label(label, image.shape[1:])
    return TrainingSubject(subject_id, image, label, spacing if target_mm is None else target_mm)
