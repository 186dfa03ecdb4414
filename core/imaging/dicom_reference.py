"""The images to which a DICOM segmentation or contours belong: found by the UIDs that it states, placed on their grid.

Looked for in the folder of the file, then in those around it: everything below its folder, the one above, and the one
above that. Only in the process of ``core.imaging.decoder``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import VolumeError
from core.formatting import format_count, format_list
from core.imaging.bounded_io import refuse_too_large
from core.imaging.decoded_image import LPS_TO_RAS, DecodedImage
from core.imaging.dicom_index import Identity, dicom_files, read_identity
from core.imaging.dicom_placing import PlacedPlanes, place
from core.imaging.dicom_planes import find_planes
from core.imaging.image_files import folder_stamp
from core.imaging.segments import Segment, SegmentSets, SegmentTable
from core.types import Size3

LEVELS_UP = 2  # folders above that of the file
DEPTH = 4  # folders below each of them
MAX_HEADERS = 5000
TOLERANCE = 0.1  # of a voxel, by which positions may deviate from the grid


@dataclass(frozen=True)
class Reference:
    """What a label map states about its images.

    Attributes
    ----------
    series, instances : collection of str. UIDs of series, and of single images.
    frame_of_reference : str. UID of the coordinates; empty if it states none.
    """

    series: Collection[str]
    instances: Collection[str]
    frame_of_reference: str


@dataclass(frozen=True)
class ImageGrid:
    """The grid of the images of a label map.

    Attributes
    ----------
    folder : Path. Their folder.
    placed : PlacedPlanes. Their slices in order.
    warnings : tuple of str. What could not be verified.
    """

    folder: Path
    placed: PlacedPlanes
    warnings: tuple[str, ...]

    @property
    def shape(self) -> Size3:
        """Voxels along column index, row index and slice."""
        first = self.placed.planes[0][0]
        return first.columns, first.rows, len(self.placed.planes[0])

    def indices(self, points: np.ndarray) -> np.ndarray:
        """Voxel indices (column, row, slice), as floats, of points in LPS mm, shape (n, 3)."""
        affine = self.placed.affine
        return np.linalg.solve(affine[:3, :3], (points - affine[:3, 3]).T).T

    def image(self, segments: Collection[Segment], sets: SegmentSets, remarks: Remarks) -> DecodedImage:
        """The label map on this grid."""
        return DecodedImage(
            shape=self.shape,
            channels=1,
            dtype="uint16",
            affine=(LPS_TO_RAS @ self.placed.affine).tolist(),
            oriented=True,
            notes=tuple(remarks.notes),
            warnings=(*self.warnings, *remarks.warnings),
            segments=SegmentTable(tuple(segments), sets.sets, str(self.folder), folder_stamp(self.folder)),
        )


@dataclass(frozen=True)
class Remarks:
    """Notes and warnings on a label map, as in :class:`core.imaging.headers.Header`."""

    notes: list[str]
    warnings: list[str]


def find_grid(file: Path, reference: Reference) -> ImageGrid:
    """The grid of the images to which a label map refers.

    Raises
    ------
    VolumeError
        If it refers to none, they are not found, lack slices, or have other coordinates.
    """
    if not reference.series and not reference.instances:
        raise VolumeError(
            f"{file}: expected the UID of the images that it belongs to, got none; export it again with references, or "
            "convert it to NIfTI in the grid of its images"
        )
    found = _find(file, reference)
    planes, *_ = find_planes(found)
    present = {plane.uid for plane in planes}
    if reference.instances and not present & set(reference.instances):
        own = [f for f in dicom_files(found.parent) if _matches(read_identity(f), (), reference.instances)]
        if own:
            planes, *_ = find_planes(own[0])
            present = {plane.uid for plane in planes}
    missing = set(reference.instances) - present
    if missing:
        raise VolumeError(
            f"{file}: expected the {format_count(len(set(reference.instances)), 'slice')} that it refers to in "
            f"{found.parent}, {format_count(len(missing), 'slice')} missing there; copy the whole series"
        )
    placed = place(found.parent, planes)
    if not placed.oriented:
        raise VolumeError(f"{file}: expected images that state their position, got {found.parent} without; convert it")
    first = planes[0]
    refuse_too_large(file, first.columns * first.rows * len(placed.planes[0]) * 4, f"the grid of {found.parent}")
    return ImageGrid(found.parent, placed, tuple(_check_coordinates(file, reference, first.frame_of_reference)))


def _check_coordinates(file: Path, reference: Reference, of_images: str) -> Iterator[str]:
    """Refuse other coordinates than those of the images; warn where one of both states none."""
    if reference.frame_of_reference and of_images and reference.frame_of_reference != of_images:
        raise VolumeError(
            f"{file}: expected the frame of reference of its images ({of_images}), got another one "
            f"({reference.frame_of_reference}): its positions are in other coordinates; register and export it again"
        )
    if not reference.frame_of_reference or not of_images:
        yield (
            "it or its images state no frame of reference: their coordinates are assumed to be the same; look at its "
            "picture"
        )


def _find(file: Path, reference: Reference) -> Path:
    """A file of the images."""
    seen: set[str] = set()
    read = 0
    base = file.parent.absolute()
    for level in range(LEVELS_UP + 1):
        folders = [f for f in _folders(base) if str(f) not in seen]
        seen.update(map(str, folders))
        several: list[list[Path]] = []
        for folder in folders:  # usually a folder holds one series
            files = _files(folder)
            first = files if level == 0 and folder == base else files[:1]
            several.append(files[len(first) :])
            read += len(first)
            match = next((f for f in first if _matches(read_identity(f), reference.series, reference.instances)), None)
            if match is not None:
                return match
        for files in several:
            for other in files:
                read += 1
                if read > MAX_HEADERS:
                    break
                if _matches(read_identity(other), reference.series, reference.instances):
                    return other
        if read > MAX_HEADERS or base.parent == base:
            break
        base = base.parent
    named = format_list(sorted(reference.series or reference.instances), 1)
    raise VolumeError(
        f"{file}: expected the images that it belongs to ({named}) in its folder or one near it, found none among "
        f"{format_count(read, 'DICOM file')}; put their series beside it"
    )


def _files(folder: Path) -> list[Path]:
    """DICOM files of a folder; none where it cannot be searched."""
    try:
        return dicom_files(folder)
    except VolumeError:
        return []


def _matches(identity: Identity | None, series: Collection[str], instances: Collection[str]) -> bool:
    if identity is None or identity.is_label:
        return False
    return identity.series in series or identity.instance in instances


def _folders(base: Path) -> Iterator[Path]:
    """A folder and those below it, the nearest first; hidden ones are left out."""
    level = [base]
    for _ in range(DEPTH + 1):
        yield from level
        below: list[Path] = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
            except OSError:
                continue
            below += [folder / name for name in names]
        level = below
