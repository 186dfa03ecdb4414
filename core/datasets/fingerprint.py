"""Sizes and voxel sizes of a data set, read from headers only, for planning."""

from __future__ import annotations

from dataclasses import dataclass

from core.datasets.layouts.base import Dataset
from core.datasets.loading import read_first_geometry
from core.errors import DatasetError, UserError
from core.types import Size3, SpacingMm


@dataclass(frozen=True)
class Fingerprint:
    """Geometry of the subjects along canonical i, j, k (as stored where the orientation is unknown).

    Attributes
    ----------
    shapes : dict. Voxels by subject id.
    spacings_mm : dict. Voxel size in mm by subject id.
    unoriented : tuple of str. Ids of subjects whose first image states no orientation.
    """

    shapes: dict[str, Size3]
    spacings_mm: dict[str, SpacingMm]
    unoriented: tuple[str, ...] = ()


def fingerprint(dataset: Dataset, ids: tuple[str, ...] = (), *, readable_only: bool = False) -> Fingerprint:
    """Read the header of each subject's first image.

    Parameters
    ----------
    dataset : Dataset. Data set.
    ids : tuple of str. Subjects to include; empty for all.
    readable_only : bool. Whether subjects that cannot be read are left out, as long as one can.

    Raises
    ------
    DatasetError
        If a subject is unknown or has no image, or there is no subject.
    VolumeError
        If a header cannot be read.
    """
    shapes: dict[str, Size3] = {}
    spacings: dict[str, SpacingMm] = {}
    unoriented: list[str] = []
    unreadable: UserError | None = None
    for id in ids or dataset.ids:
        try:
            geometry = read_first_geometry(dataset, dataset.subject(id)).canonical
        except UserError as error:
            if not readable_only:
                raise
            unreadable = unreadable or error
            continue
        shapes[id], spacings[id] = geometry.shape, geometry.spacing_mm
        if not geometry.oriented:
            unoriented.append(id)
    if unreadable is not None and not shapes:
        raise unreadable
    if not shapes:
        raise DatasetError(f"{dataset.path}: expected at least one subject, found none")
    return Fingerprint(shapes, spacings, tuple(unoriented))
