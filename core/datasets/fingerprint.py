"""The facts of a data set that planning needs - sizes and voxel sizes - from headers alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.datasets.layouts.base import Dataset
from core.errors import DatasetError
from core.imaging.headers import read_header
from core.types import Size3, SpacingMm


@dataclass(frozen=True)
class Fingerprint:
    """Shapes in voxels and voxel sizes in mm, by subject and their medians, along canonical i, j, k (as stored where
    the orientation is unknown)."""

    shapes: dict[str, Size3]
    spacings_mm: dict[str, SpacingMm]
    median_shape: Size3
    median_spacing_mm: SpacingMm


def fingerprint(dataset: Dataset, ids: tuple[str, ...] = ()) -> Fingerprint:
    """Read the header of each subject's first image.

    Parameters
    ----------
    ids : the subjects to look at; empty: all.

    Raises
    ------
    DatasetError
        If a subject is unknown or has no image, or there is no subject.
    VolumeError
        If a header cannot be read.
    """
    shapes: dict[str, Size3] = {}
    spacings: dict[str, SpacingMm] = {}
    for id in ids or dataset.ids:
        images = dataset.subject(id).images
        first = next((images[m] for m in dataset.modalities if m in images), None)
        if first is None:
            raise DatasetError(
                f"{dataset.path}: expected an image of {' or '.join(dataset.modalities)} for {id}, found none"
            )
        geometry = read_header(first.path).geometry.canonical
        shapes[id], spacings[id] = geometry.shape, geometry.spacing_mm
    if not shapes:
        raise DatasetError(f"{dataset.path}: expected at least one subject, found none")
    i, j, k = (max(1, round(float(n))) for n in np.median(list(shapes.values()), axis=0))
    a, b, c = (float(size) for size in np.median(list(spacings.values()), axis=0))
    return Fingerprint(shapes, spacings, (i, j, k), (a, b, c))
