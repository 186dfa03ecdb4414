"""Decodes DICOM contours (RTSTRUCT) to a label map on the grid of their images.

Contours, in mm, are filled on the slices in whose plane they lie (:mod:`core.imaging.contour_fill`). Those of a region
in one slice are combined by the even-odd rule: a contour inside of another one is a hole. Only in the process of
``core.imaging.decoder``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.formatting import format_count, format_list
from core.imaging.contour_fill import fill_polygon
from core.imaging.decoded_image import DecodedImage, LimitMemory
from core.imaging.dicom_index import read_label_header, read_segments
from core.imaging.dicom_links import contour_images, read_reference
from core.imaging.dicom_planes import error_text, text_of
from core.imaging.dicom_reference import TOLERANCE, ImageGrid, Remarks, find_grid
from core.imaging.geometry import format_mm
from core.imaging.segments import Segment, SegmentSets

FILE_BYTES = 64 * 2**20
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OTHERS = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")  # enclose nothing
CONTOUR_DATA = 0x30060050
CORNER_DIGITS = 3  # of a pixel, by which the corners of copies agree


@dataclass(frozen=True)
class Contour:
    """One contour of a region.

    Attributes
    ----------
    points : ndarray, float64, shape (n, 3). Column, row and slice of its corners, in voxels.
    images : tuple of str. UIDs of the images that it states to lie on.
    """

    points: np.ndarray
    images: tuple[str, ...]

    @property
    def height(self) -> float:
        """Its place among the slices, in slices."""
        return float(self.points[:, 2].mean())


def read_contours(file: Path, limit_memory: LimitMemory) -> tuple[DecodedImage, np.ndarray]:
    """Decode contours.

    Returns
    -------
    DecodedImage, and ndarray, uint16, shape (1, k, j, i), numbers of sets of regions.

    Raises
    ------
    VolumeError
        If the file is damaged, its images are not found, or a contour lies in no slice of them.
    """
    file_bytes = file.stat().st_size
    limit_memory(30 * file_bytes + FILE_BYTES)
    header = read_label_header(file)
    segments = read_segments(file, header)
    reference = read_reference(header)
    if len(reference.frames_of_reference) > 1:
        raise VolumeError(
            f"{file}: expected one frame of reference for all regions, got "
            f"{format_list(reference.frames_of_reference, 3)}; export the contours of each image alone"
        )
    contours = _contours_by_region(file, header)
    grid = find_grid(file, reference, lambda grid: _check_place(file, contours, grid))
    limit_memory(30 * file_bytes + 6 * int(np.prod(grid.shape)) + FILE_BYTES)
    sets = SegmentSets(grid.shape[::-1])
    remarks = Remarks([], [])
    drawn = False
    for segment, item in zip(segments, header.StructureSetROISequence, strict=True):
        found = list(_closed(file, segment, contours.get(int(item.ROINumber), ()), grid, remarks))
        drawn |= _Region(file, segment, grid, remarks).draw(found, sets)
    if not drawn:
        remarks.warnings.append("it has no closed contours: all is background; was it exported completely?")
    return grid.image(segments, sets, remarks), sets.stored[None]


def _contours_by_region(file: Path, header: Any) -> Mapping[int, Sequence[Any]]:
    found: dict[int, Sequence[Any]] = {}
    listed = {int(item.ROINumber) for item in header.StructureSetROISequence}
    for item in header.get("ROIContourSequence") or ():
        number = int(item.ReferencedROINumber)
        if number in found or number not in listed:
            what = "twice" if number in found else "without a name"
            raise VolumeError(
                f"{file}: expected the contours of every region once, got region {number} {what}; export it again"
            )
        found[number] = item.get("ContourSequence") or ()
    return found


def _check_place(file: Path, contours: Mapping[int, Sequence[Any]], grid: ImageGrid) -> None:
    """Refuse contours that do not lie in slices of a grid."""
    for item in itertools.chain.from_iterable(contours.values()):
        heights = grid.indices(_points(str(file), item))[:, 2]
        k = round(float(heights.mean())) if heights.size else 0
        if not 0 <= k < grid.shape[2] or (heights.size and np.abs(heights - k).max() > TOLERANCE):
            raise VolumeError(
                f"{file}: expected contours on the {grid.shape[2]} slices in {grid.folder}, got one at slice "
                f"{heights.mean() + 1:.4g}"
            )


def _closed(file: Path, segment: Segment, items: Sequence[Any], grid: ImageGrid, remarks: Remarks) -> Iterator[Contour]:
    """The closed contours of a region, on the grid; what else it has is noted."""
    others: list[str] = []
    for number, item in enumerate(items, start=1):
        kind = text_of(item.get("ContourGeometricType")).upper()
        if kind not in (*CLOSED, *OTHERS):
            raise VolumeError(
                f"{file}: contour {number} of {segment.name}: expected the type {' or '.join((CLOSED[0], *OTHERS))}, "
                f"got {kind or 'none'}: whether it is to be filled is unknown; export it again"
            )
        points = _points(f"{file}: contour {number} of {segment.name}", item)
        if kind not in CLOSED or len(points) < 3:
            others.append(kind if kind not in CLOSED else "fewer than three points")
            continue
        contour = Contour(grid.indices(points), contour_images(item))
        spread = float(np.ptp(contour.points[:, 2]))
        if spread > 2 * TOLERANCE:
            raise VolumeError(
                f"{file}: expected contours in the plane of the slices in {grid.folder}, got contour {number} of "
                f"{segment.name}, which spans {spread:.2g} slices; draw it on these images, or convert it with a "
                "program that interpolates"
            )
        yield contour
    if others:
        kinds = format_list(sorted(set(others)), 3)
        remarks.notes.append(f"{format_count(len(others), 'contour')} of {segment.name} not filled: {kinds}")
    elif not items:
        remarks.notes.append(f"{segment.name} has no contours")


def _points(name: str, item: Any) -> np.ndarray:
    """Corners of a contour in LPS mm, shape (n, 3)."""
    try:
        # As stored: pydicom makes an object of each number, which takes a hundred times as long.
        value = item.get_item(CONTOUR_DATA).value if CONTOUR_DATA in item else ()
        texts = value.split(b"\\") if isinstance(value, bytes) else list(value or ())
        numbers = np.array([float(v) for v in texts])
    except (TypeError, ValueError, AttributeError) as error:
        raise VolumeError(f"{name}: expected numbers, got {error_text(error)}; export it again") from None
    stated = int(item.get("NumberOfContourPoints") or numbers.size // 3)
    if numbers.size % 3 or numbers.size // 3 != stated or not np.isfinite(numbers).all():
        raise VolumeError(
            f"{name}: expected {stated} points of three finite numbers, got {numbers.size} numbers; it is cut off, "
            "export it again"
        )
    return numbers.reshape(-1, 3)


def _corners(points: np.ndarray) -> bytes:
    """Key that copies of a contour share, whatever their first point and direction: the sorted corners.

    By the even-odd rule a contour that is drawn twice encloses nothing.
    """
    return np.unique(np.round(points, CORNER_DIGITS) + 0.0, axis=0).tobytes()


class _Region:
    """Fills the contours of one region."""

    def __init__(self, file: Path, segment: Segment, grid: ImageGrid, remarks: Remarks) -> None:
        self.file, self.segment, self.grid, self.remarks = file, segment, grid, remarks

    def draw(self, contours: Sequence[Contour], sets: SegmentSets) -> bool:
        """Fill contours; whether there were any."""
        slices = self.grid.shape[2]
        by_slice: dict[int, list[Contour]] = {}
        between: list[Contour] = []
        for contour in contours:
            k = round(contour.height)
            off = bool(np.abs(contour.points[:, 2] - k).max() > TOLERANCE)
            if not 0 <= k < slices or (off and not 0 <= contour.height <= slices - 1):
                raise VolumeError(
                    f"{self._expected('slices for all contours')}, got one {self._place(contour)}, beyond the "
                    f"{slices} slices in {self.grid.folder}; slices are missing, copy the whole series"
                )
            if off:
                between.append(contour)
                continue
            self._check_image(contour, k)
            by_slice.setdefault(k, []).append(contour)
        self._judge_between(between, by_slice)
        clipped = False
        partly: list[int] = []
        for k, found in sorted(by_slice.items()):
            inside, was_clipped, overlaps = self._fill(found)
            clipped |= was_clipped
            partly += [k] if overlaps else []
            try:
                sets.add(sets.stored[k], inside, self.segment.number)
            except ValueError as error:
                raise VolumeError(f"{self.file}: {error}; convert it") from None
        self._warn(sorted(by_slice), clipped, partly)
        return bool(contours)

    def _fill(self, contours: Sequence[Contour]) -> tuple[np.ndarray, bool, bool]:
        """Pixels inside of the contours of a slice, whether one leaves the image, and whether two overlap in part."""
        columns, rows, _ = self.grid.shape
        shape = (rows, columns)
        distinct = {_corners(c.points[:, :2]): c for c in contours}
        if len(distinct) < len(contours):
            self._warn_once(f"copies of contours of {self.segment.name} are left out")
        filled = [fill_polygon(c.points[:, :2], shape) for c in distinct.values()]
        result = np.zeros(shape, bool)
        for polygon in filled:
            result[polygon.part] ^= polygon.inside
        overlaps = False
        if len(filled) > 1 and int(result.sum()) != sum(int(p.inside.sum()) for p in filled):
            masks = [p.on(shape) for p in filled]
            for n, one in enumerate(masks):
                for other in masks[n + 1 :]:
                    common = int((one & other).sum())
                    overlaps |= bool(common) and common < min(int(one.sum()), int(other.sum()))
        return result, any(p.clipped for p in filled), overlaps

    def _check_image(self, contour: Contour, k: int) -> None:
        """Refuse a contour that states to lie on another slice than it does."""
        known = {plane.uid for stack in self.grid.placed.planes for plane in stack}
        here = {stack[k].uid for stack in self.grid.placed.planes}
        stated = set(contour.images) & known
        if stated and not stated & here:
            raise VolumeError(
                f"{self._expected('contours on the slices that they refer to')}, got one {self._place(contour)}, which "
                "refers to another slice: its positions are wrong; export it again"
            )

    def _judge_between(self, between: Sequence[Contour], by_slice: Mapping[int, object]) -> None:
        """Contours between slices that have contours add nothing; others would be lost, and are refused."""
        lost = [c for c in between if not {int(np.floor(c.height)), int(np.ceil(c.height))} <= by_slice.keys()]
        if lost:
            raise VolumeError(
                f"{self._expected('contours on slices')}, got {format_count(len(lost), 'contour')} between slices, "
                f"such as one {self._place(lost[0])}; draw them on the images in {self.grid.folder}, or convert "
                "them with a program that interpolates"
            )
        if between:
            self.remarks.warnings.append(
                f"{format_count(len(between), 'contour')} of {self.segment.name} lie between slices and are left out; "
                "the slices themselves have contours"
            )

    def _warn(self, slices: Sequence[int], clipped: bool, partly: Sequence[int]) -> None:
        name = self.segment.name
        if clipped:
            self.remarks.warnings.append(f"contours of {name} leave the images: what lies outside of them is lost")
        if partly:
            self.remarks.warnings.append(
                f"contours of {name} overlap in part in {format_count(len(partly), 'slice')}: what two of them share "
                "is outside (even-odd rule); look at its picture"
            )
        gaps = np.diff(slices)
        if len(gaps) > 1 and gaps.min() > 1:
            self.remarks.warnings.append(
                f"{name} has contours on every {round(float(np.median(gaps)))} slices only: the slices between are "
                "background; interpolate them where they were drawn"
            )

    def _warn_once(self, text: str) -> None:
        if text not in self.remarks.warnings:
            self.remarks.warnings.append(text)

    def _expected(self, what: str) -> str:
        return f"{self.file}: {self.segment.name}: expected {what}"

    def _place(self, contour: Contour) -> str:
        affine = self.grid.placed.affine
        centre = affine[:3, :3] @ contour.points.mean(axis=0) + affine[:3, 3]
        return f"around ({format_mm(centre, ', ')}) mm"
