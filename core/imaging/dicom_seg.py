"""Decodes a DICOM segmentation (SEG) to a label map on the grid of its images.

The place of every frame is that of its own functional groups; frames that are left out because they are empty are
background. Only in the process of ``core.imaging.decoder``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.formatting import format_count, format_size
from core.imaging.decoded_image import DecodedImage, LimitMemory
from core.imaging.dicom_index import read_label_header, read_segments
from core.imaging.dicom_links import read_reference
from core.imaging.dicom_planes import Plane, error_text, planes_of
from core.imaging.dicom_reference import TOLERANCE, ImageGrid, Remarks, find_grid
from core.imaging.geometry import format_mm
from core.imaging.segments import Segment, SegmentSets

FILE_BYTES = 64 * 2**20  # of elements beside the pixels, for each 10 MB of the file
MAX_FRAMES = 200_000
EXPORT = "export it again"


def read_segmentation(file: Path, limit_memory: LimitMemory) -> tuple[DecodedImage, np.ndarray]:
    """Decode a segmentation.

    Returns
    -------
    DecodedImage, and ndarray, uint16, shape (1, k, j, i), numbers of sets of segments.

    Raises
    ------
    VolumeError
        If it is damaged, not of segments with one value each, its images are not found, or it does not fit their grid.
    """
    file_bytes = file.stat().st_size
    limit_memory(8 * file_bytes + FILE_BYTES)
    header = read_label_header(file)
    kind = str(header.get("SegmentationType", "")).upper()
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise VolumeError(
            f"{file}: expected a segmentation of the type BINARY or LABELMAP, got {kind or 'none'}; the file is cut "
            "off, or of another kind"
        )
    segments = read_segments(file, header)
    frames = _frames(file, header)
    grid = find_grid(file, read_reference(header), lambda grid: _check_place(file, frames, grid))
    limit_memory(8 * file_bytes + 6 * int(np.prod(grid.shape)) + FILE_BYTES)
    sets = SegmentSets(grid.shape[::-1])
    remarks = Remarks([], [])
    known = {s.number for s in segments}
    drawn: set[tuple[int, tuple[int, ...]]] = set()
    wrong = f"{file}: expected the segments that it lists ({', '.join(map(str, sorted(known)))})"
    for (plane, number), pixels in zip(frames, _pixels(file, header, frames[0][0]), strict=False):
        values = {0: pixels != 0} if kind != "LABELMAP" else {int(v): pixels == v for v in np.unique(pixels) if v}
        if kind == "FRACTIONAL":
            _check_fractions(file, pixels, header)
        if number is not None:
            values = {number: values[0]}
        view, place = _place(file, plane, grid, sets.stored)
        for value, inside in values.items():
            if not inside.any():
                continue
            if value not in known:
                raise VolumeError(f"{wrong}, got {value} in frame {plane.frame + 1}")
            if view is None:
                raise VolumeError(_outside(file, plane, grid))
            if (value, place) in drawn:
                raise VolumeError(
                    f"{file}: expected one frame for each segment and place, got another one for segment {value}, "
                    f"frame {plane.frame + 1}; export it again"
                )
            drawn.add((value, place))
            _add(file, sets, view, inside, value)
    _note_names(segments, remarks)
    if not drawn:
        remarks.warnings.append("it has no voxels: all is background; was it exported completely?")
    return grid.image(segments, sets, remarks), sets.stored[None]


def _add(file: Path, sets: SegmentSets, view: np.ndarray, inside: np.ndarray, number: int) -> None:
    try:
        sets.add(view, inside, number)
    except ValueError as error:
        raise VolumeError(f"{file}: {error}; convert it") from None


def _note_names(segments: list[Segment], remarks: Remarks) -> None:
    names = [s.name for s in segments]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        remarks.notes.append(f"several of its segments have one name and are one class: {', '.join(repeated)}")


def _frames(file: Path, header: Any) -> list[tuple[Plane, int | None]]:
    """Place and number of the segment of each frame; ``None`` where the pixels are numbers."""
    count = int(header.get("NumberOfFrames") or 1)
    if not 1 <= count <= MAX_FRAMES:
        raise VolumeError(f"{file}: expected 1 to {MAX_FRAMES} frames, got {count}; the header is damaged")
    planes = planes_of(file, header, MAX_FRAMES, EXPORT)
    if any(plane.position is None or plane.directions is None for plane in planes):
        raise VolumeError(f"{file}: expected position and orientation of each frame, got none; export it again")
    if str(header.get("SegmentationType", "")).upper() == "LABELMAP":
        return [(plane, None) for plane in planes]
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = header.get("PerFrameFunctionalGroupsSequence") or [None] * count
    numbers = []
    for group in groups:
        found = next((g.SegmentIdentificationSequence for g in (group, shared) if g and _names_segment(g)), None)
        if found is None:
            raise VolumeError(f"{file}: expected the number of its segment for each frame, got none; export it again")
        numbers.append(int(found[0].ReferencedSegmentNumber))
    return list(zip(planes, numbers, strict=True))


def _check_place(file: Path, frames: Sequence[tuple[Plane, int | None]], grid: ImageGrid) -> None:
    """Refuse frames that do not lie on a grid."""
    stored = np.empty(grid.shape[::-1], np.uint8)
    for plane, _ in frames:
        if _place(file, plane, grid, stored)[0] is None:
            raise VolumeError(_outside(file, plane, grid))


def _names_segment(group: Any) -> bool:
    items = group.get("SegmentIdentificationSequence")
    return bool(items) and "ReferencedSegmentNumber" in items[0]


def _pixels(file: Path, header: Any, plane: Plane) -> Iterator[np.ndarray]:
    """Pixels of each frame, shape (row, column)."""
    count = 0
    try:
        for pixels in _decoded(file, header, plane):
            count += 1
            yield pixels
    except (GeneratorExit, MemoryError, VolumeError):
        raise
    except Exception as error:  # noqa: BLE001 - damaged pixels raise any exception
        raise VolumeError(
            f"{file}: the pixels of frame {count + 1} cannot be decoded ({error_text(error)}); is it cut off? Copy it "
            "again"
        ) from None
    expected = int(header.get("NumberOfFrames") or 1)
    if count < expected:
        raise VolumeError(f"{file}: expected {expected} frames of pixels, got {count}; it is cut off, copy it again")


def _decoded(file: Path, header: Any, plane: Plane) -> Iterator[np.ndarray]:
    """Pixels of each frame; bits are unpacked here, since frames of them need not begin at a byte."""
    import pydicom
    from pydicom.pixels.utils import iter_pixels

    compressed = header.file_meta.TransferSyntaxUID.is_compressed
    bits_allocated = int(header.get("BitsAllocated", 8))
    if not compressed:
        _check_length(file, header, plane.rows * plane.columns * bits_allocated)
    if bits_allocated != 1 or compressed:
        yield from iter_pixels(file)
        return
    content = pydicom.dcmread(file, force=True, specific_tags=["PixelData"]).PixelData
    bits = np.frombuffer(content, np.uint8)
    size = plane.rows * plane.columns
    for start in range(0, len(bits) * 8 - size + 1, size):
        first, last = start // 8, -(-(start + size) // 8)
        unpacked = np.unpackbits(bits[first:last], bitorder="little")[start - 8 * first :][:size]
        yield unpacked.reshape(plane.rows, plane.columns)


def _check_length(file: Path, header: Any, frame_bits: int) -> None:
    """Refuse more pixels than the frames take: they belong to frames that the header does not state, or each frame is
    filled up to whole bytes, so that all but the first would be shifted."""
    import pydicom

    frames = int(header.get("NumberOfFrames") or 1)
    expected = -(-frames * frame_bits // 8)
    # As it is stored: of long ones the length alone is read.
    stored: Any = pydicom.dcmread(file, force=True, specific_tags=["PixelData"], defer_size=1024)
    found = stored.get_item("PixelData")
    if found is None:
        return
    length = found.length if found.is_raw else len(found.value or b"")
    if length > expected + expected % 2:
        raise VolumeError(
            f"{file}: expected {expected} bytes of pixels for {format_count(frames, 'frame')}, got {length}; its "
            "header or its pixels are damaged, export it again"
        )


def _check_fractions(file: Path, pixels: np.ndarray, header: Any) -> None:
    largest = int(header.get("MaximumFractionalValue", 0) or 0)
    between = pixels[(pixels != 0) & (pixels != largest)]
    if between.size:
        raise VolumeError(
            f"{file}: expected a binary segmentation, got fractions such as {between[0]} of {largest}; decide from "
            "which fraction on a voxel belongs to a segment, and export it as BINARY"
        )


def _place(file: Path, plane: Plane, grid: ImageGrid, stored: np.ndarray) -> tuple[np.ndarray | None, tuple[int, ...]]:
    """The voxels of a frame, a view of shape (row, column), ``None`` outside of the slices; and its place.

    A frame may lie in another plane than the slices, and run in other directions, as long as its pixels are voxels.
    """
    assert plane.directions is not None and plane.position is not None
    row_mm, column_mm = plane.spacing_mm
    steps = np.array([plane.directions[0] * column_mm, plane.directions[1] * row_mm])
    corners = np.array([[0, 0], [plane.columns - 1, 0], [0, plane.rows - 1], [plane.columns - 1, plane.rows - 1]])
    found = grid.indices(plane.position + corners @ steps)
    axes = grid.indices(grid.placed.affine[:3, 3] + steps)  # steps along a row and down a column, in voxels
    along = [int(np.argmax(np.abs(axis))) for axis in axes]
    across = 3 - sum(along)
    shape = grid.shape
    if along[0] == along[1]:
        raise VolumeError(_off_grid(file, plane, grid, np.abs(found - np.round(found)), 2))
    if [plane.columns, plane.rows] != [shape[axis] for axis in along]:
        raise VolumeError(
            f"{file}: expected frames of {format_size([shape[axis] for axis in along])} pixels, as the images in "
            f"{grid.folder}, got {format_size((plane.columns, plane.rows))} in frame {plane.frame + 1}; write it on "
            "the grid of its images"
        )
    start = np.round(found[0])
    signs = [1 if axis[n] > 0 else -1 for axis, n in zip(axes, along, strict=True)]
    expected = np.tile(start, (4, 1))
    for corner, (column, row) in enumerate(corners):
        expected[corner, along[0]] += signs[0] * column
        expected[corner, along[1]] += signs[1] * row
    deviation = np.abs(found - expected)
    if deviation.max() > TOLERANCE:
        raise VolumeError(_off_grid(file, plane, grid, deviation, across))
    first = [0 if sign > 0 else shape[axis] - 1 for sign, axis in zip(signs, along, strict=True)]
    if [int(start[axis]) for axis in along] != first:
        raise VolumeError(_off_grid(file, plane, grid, deviation, across, shifted=True))
    at = int(start[across])
    place = (across, at)
    if not 0 <= at < shape[across]:
        return None, place
    view = stored.transpose(2, 1, 0)  # (column, row, slice)
    view = np.moveaxis(view, (along[1], along[0], across), (0, 1, 2))[:, :, at]
    return view[:: signs[1], :: signs[0]], place


def _outside(file: Path, plane: Plane, grid: ImageGrid) -> str:
    """The message about a frame that is beyond the images."""
    return (
        f"{file}: expected frames inside of the {grid.shape[2]} slices in {grid.folder}, got frame {plane.frame + 1} "
        "outside of them; slices are missing, copy the whole series"
    )


def _off_grid(
    file: Path, plane: Plane, grid: ImageGrid, deviation: np.ndarray, across: int, shifted: bool = False
) -> str:
    """The message about a frame that is not on the grid of the images."""
    frame = f"frame {plane.frame + 1}"
    of_images = f"the images in {grid.folder}"
    assert plane.position is not None
    at = f"at ({format_mm(plane.position, ', ')}) mm"
    inside = np.delete(deviation, across, axis=1)
    if not shifted and inside.max() <= TOLERANCE and np.ptp(deviation[:, across]) <= TOLERANCE:
        what = f"{frame} {at} between slices, or beside them"
    elif not shifted and np.ptp(deviation, axis=0).max() > TOLERANCE:
        sizes, expected = format_mm(plane.spacing_mm), format_mm(grid.placed.planes[0][0].spacing_mm)
        what = f"{frame} with pixels of {sizes} mm (the images: {expected} mm), or turned"
    else:
        what = f"{frame} {at}, moved along its rows or columns"
    return f"{file}: expected frames on the voxels of {of_images}, got {what}; resample it onto the grid of its images"
