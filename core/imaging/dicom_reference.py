"""The grid of the images to which a DICOM segmentation or contours belong.

Only in the process of ``core.imaging.decoder``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import VolumeError
from core.formatting import format_count, format_list, format_size
from core.imaging.bounded_io import refuse_too_large
from core.imaging.decoded_image import LPS_TO_RAS, DecodedImage
from core.imaging.dicom_links import Reference
from core.imaging.dicom_placing import PlacedPlanes, place
from core.imaging.dicom_planes import Plane, find_planes, visible_files
from core.imaging.dicom_search import find_images, identity_of
from core.imaging.image_files import folder_stamp
from core.imaging.segments import Segment, SegmentSets, SegmentTable
from core.types import Size3

TOLERANCE = 0.1  # of a voxel, by which positions may deviate from the grid


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

    @property
    def planes(self) -> Iterator[Plane]:
        """Their slices, of all channels."""
        return itertools.chain.from_iterable(self.placed.planes)

    @property
    def series(self) -> str:
        """UID of their series."""
        return self.placed.planes[0][0].series

    @property
    def frame_of_reference(self) -> str:
        """UID of their coordinates; empty if they state none."""
        return self.placed.planes[0][0].frame_of_reference

    @property
    def name(self) -> str:
        """Description, folder, shape and a file of the series, for messages."""
        first = self.placed.planes[0][0]
        title = f"{first.description!r} " if first.description else ""
        return f"{title}in {self.folder} ({format_size(self.shape)} voxels, such as {first.file.name})"

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
            segments=SegmentTable(tuple(segments), sets.sets, str(self.folder), folder_stamp(self.folder), self.series),
        )


@dataclass(frozen=True)
class Remarks:
    """Notes and warnings on a label map, as in :class:`core.imaging.headers.Header`."""

    notes: list[str]
    warnings: list[str]


def find_grid(file: Path, reference: Reference, check_place: Callable[[ImageGrid], None]) -> ImageGrid:
    """The grid of the images to which a label map refers.

    Of several series that it refers to, it is the one to whose images all frames or contours refer; where they do not
    decide, the one on which all of them lie. Where they lie on several with the same voxels, it is the first of these.

    Parameters
    ----------
    check_place : callable. Raises ``VolumeError`` if the label map does not lie on a grid; asked where it refers to
        several series.

    Raises
    ------
    VolumeError
        If it refers to none, they are not found, lack slices, or have other coordinates; or if it is open to which of
        several series it belongs.
    """
    if reference.is_empty:
        raise VolumeError(
            f"{file}: expected the UID of the images that it belongs to, got none; export it again with references, or "
            "convert it to NIfTI in the grid of its images"
        )
    grids: dict[str, ImageGrid] = {}
    errors: dict[str, VolumeError] = {}
    for series, found in find_images(file, reference).items():
        try:
            grids[series] = _grid(file, reference, series, found)
        except VolumeError as error:
            errors[series] = error
    if not grids:
        raise next(iter(errors.values()))
    if len(grids) + len(errors) == 1:
        return next(iter(grids.values()))
    return _choose(file, reference, grids, check_place)


def _choose(
    file: Path, reference: Reference, grids: Mapping[str, ImageGrid], check_place: Callable[[ImageGrid], None]
) -> ImageGrid:
    """One of the grids of several series."""
    images = {series: {p.uid for p in grid.planes} for series, grid in grids.items()}
    common = reference.common_series(images)
    if len(common) == 1:
        return grids[common[0]]
    stated = [grid for series, grid in grids.items() if images[series] & reference.deciding_instances]
    if reference.drawn_on and not common and len(stated) > 1 and not _have_same_voxels(stated):
        raise VolumeError(
            f"{file}: expected frames or contours that refer to the images of one series, got some of each of "
            f"{_names(stated)}; export those of each series alone"
        )
    fitting: list[ImageGrid] = []
    reasons: list[str] = []
    for grid in [grids[series] for series in common] or grids.values():
        try:
            check_place(grid)
            fitting.append(grid)
        except VolumeError as error:
            reasons.append(f"{str(error).removeprefix(f'{file}: ').rstrip('.')}")
    if not fitting:
        raise VolumeError(
            f"{file}: expected the voxels of one of the {len(reasons)} series that it refers to, got others: "
            f"{'; and '.join(reasons)}"
        )
    if not _have_same_voxels(fitting):
        raise VolumeError(
            f"{file}: expected frames or contours that state their images, or lie on one series only; they state none, "
            f"and lie on {_names(fitting)}, so the series is ambiguous; export the file again with references, or "
            "leave only its series in these folders"
        )
    return fitting[0]


def _have_same_voxels(grids: Sequence[ImageGrid]) -> bool:
    """Whether voxels of the same indices lie at the same place."""
    first, *others = grids
    corners = np.array(list(itertools.product(*((0, n - 1) for n in first.shape))), float)
    points = (first.placed.affine[:3, :3] @ corners.T).T + first.placed.affine[:3, 3]
    return all(
        grid.shape == first.shape
        and grid.frame_of_reference == first.frame_of_reference
        and float(np.abs(grid.indices(points) - corners).max()) <= TOLERANCE
        for grid in others
    )


def _names(grids: Sequence[ImageGrid]) -> str:
    return format_list([grid.name for grid in grids], 4)


def _grid(file: Path, reference: Reference, series: str, found: Path) -> ImageGrid:
    """The grid of one series.

    Parameters
    ----------
    series : str. Its UID.
    found : Path. One of its files.

    Raises
    ------
    VolumeError
        As :func:`find_grid`.
    """
    planes, *_ = find_planes(found)
    present = {plane.uid for plane in planes}
    if reference.all_instances and not present & reference.all_instances:
        identities = ((other, identity_of(other)) for other in visible_files(found.parent))
        own = next((other for other, i in identities if i is not None and i.instance in reference.all_instances), None)
        if own is not None:
            planes, *_ = find_planes(own)
            present = {plane.uid for plane in planes}
    stated = reference.instances_of(series)
    missing = stated - present
    if missing:
        raise VolumeError(
            f"{file}: expected the {format_count(len(stated), 'slice')} that it refers to in "
            f"{found.parent}, {format_count(len(missing), 'slice')} missing there; copy the whole series"
        )
    placed = place(found.parent, planes)
    if not placed.oriented:
        raise VolumeError(f"{file}: expected images that state their position, got {found.parent} without; convert it")
    first = planes[0]
    refuse_too_large(file, first.columns * first.rows * len(placed.planes[0]) * 4, f"the grid of {found.parent}")
    frames = sorted({plane.frame_of_reference for plane in planes})
    if len(frames) > 1:
        raise VolumeError(
            f"{file}: expected images in one frame of reference, got {format_list(frames, 2)} in {found.parent}: their "
            "positions are in different coordinates; put each image into a folder of its own"
        )
    return ImageGrid(found.parent, placed, tuple(_check_coordinates(file, reference, frames[0])))


def _check_coordinates(file: Path, reference: Reference, of_images: str) -> Iterator[str]:
    """Refuse other coordinates than those of the images; warn where one of both states none."""
    own = next(iter(reference.frames_of_reference), "")
    if own and of_images and own != of_images:
        raise VolumeError(
            f"{file}: expected the frame of reference of its images ({of_images}), got another one ({own}): its "
            "positions are in other coordinates; register and export it again"
        )
    if not own or not of_images:
        yield (
            "it or its images state no frame of reference: their coordinates are assumed to be the same; look at its "
            "picture"
        )
