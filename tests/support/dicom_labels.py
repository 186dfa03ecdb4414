"""Writes DICOM segmentations (SEG) and contours (RTSTRUCT) of the series of :mod:`tests.support.foreign_volumes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.foreign_volumes import FRAME_OF_REFERENCE, LPS, Series, _decimal, write_series

FRAME = FRAME_OF_REFERENCE
SERIES_UID = "1.2.3.4"
SEG, LABELMAP, RTSTRUCT = (f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("66.4", "66.7", "481.3"))


@dataclass(frozen=True)
class SegOptions:
    """How a segmentation is written.

    Attributes
    ----------
    kind : str. "BINARY", "LABELMAP" or "FRACTIONAL".
    frame_axes : tuple of int. Axes of the array along a row and down a column, negative plus one for reversed ones
        (-1, -2, -3: i, j, k backwards).
    keep_empty : bool. Whether frames without voxels are written.
    change : callable. Changes the data set before it is written.
    """

    kind: str = "BINARY"
    frame_axes: tuple[int, int] = (0, 1)
    keep_empty: bool = False
    change: Callable[[Any], None] = field(default=lambda header: None)


def write_case(folder: Path, array: np.ndarray, affine: np.ndarray, uid: str = SERIES_UID, **elements: Any) -> Path:
    """Write a series with a frame of reference."""
    elements = {"FrameOfReferenceUID": FRAME, "Modality": "MR", **elements}
    return write_series(folder, array, affine, Series(uid, elements=elements))


def write_seg(
    path: Path, masks: Mapping[str, np.ndarray], affine: np.ndarray, uid: str = SERIES_UID,
    options: SegOptions = SegOptions(),
) -> Path:  # fmt: skip
    """Write a segmentation; masks by name of the segment, bool, shape (i, j, k)."""
    from pydicom.dataset import Dataset

    axes = [axis if axis >= 0 else -1 - axis for axis in options.frame_axes]
    signs = [1 if axis >= 0 else -1 for axis in options.frame_axes]
    across = 3 - sum(axes)
    shape = next(iter(masks.values())).shape
    header = _header(SEG if options.kind != "LABELMAP" else LABELMAP, "SEG")
    header.SegmentationType, header.FrameOfReferenceUID = options.kind, FRAME
    header.ReferencedSeriesSequence = [_item(SeriesInstanceUID=uid)]
    header.SegmentSequence = [
        _item(SegmentNumber=n, SegmentLabel=name, SegmentAlgorithmType="MANUAL") for n, name in enumerate(masks, 1)
    ]
    axis_mm = LPS @ affine[:3, :3]
    spacing = np.linalg.norm(axis_mm, axis=0)
    directions = [sign * axis_mm[:, axis] / spacing[axis] for sign, axis in zip(signs, axes, strict=True)]
    shared = Dataset()
    shared.PixelMeasuresSequence = [
        _item(PixelSpacing=[_decimal(spacing[axes[1]]), _decimal(spacing[axes[0]])], SliceThickness=_decimal(1))
    ]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[_decimal(v) for v in np.concatenate(directions)])]
    header.SharedFunctionalGroupsSequence = [shared]
    groups, pixels = [], []
    for number, at, values in _frames(masks, across, options):
        frame = Dataset()
        start = [0.0, 0.0, 0.0]
        for axis, sign in zip(axes, signs, strict=True):
            start[axis] = 0 if sign > 0 else shape[axis] - 1
        start[across] = at
        position = LPS @ (affine[:3, :3] @ start + affine[:3, 3])
        frame.PlanePositionSequence = [_item(ImagePositionPatient=[_decimal(v) for v in position])]
        if number:
            frame.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=number)]
        groups.append(frame)
        plane = np.moveaxis(values, [a - (a > across) for a in axes], [1, 0])  # (row, column)
        pixels.append(plane[:: signs[1], :: signs[0]])
    header.PerFrameFunctionalGroupsSequence = groups
    header.NumberOfFrames = len(groups)
    header.Rows, header.Columns = shape[axes[1]], shape[axes[0]]
    bits = 1 if options.kind == "BINARY" else 8
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    if options.kind == "FRACTIONAL":
        header.MaximumFractionalValue = 100
    flat = np.concatenate([p.ravel() for p in pixels]).astype(np.uint8)
    content = np.packbits(flat, bitorder="little") if bits == 1 else flat
    header.PixelData = content.tobytes() + b"\0" * (len(content) % 2)
    options.change(header)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def _frames(masks: Mapping[str, np.ndarray], across: int, options: SegOptions) -> list[tuple[int, int, np.ndarray]]:
    """Number of the segment (0 in a label map), place across, and values of each frame."""
    arrays = [np.moveaxis(mask, across, 0) for mask in masks.values()]
    if options.kind == "LABELMAP":
        values = np.zeros(arrays[0].shape, np.uint8)
        for n, mask in enumerate(arrays, 1):
            values[mask] = n
        return [(0, at, frame) for at, frame in enumerate(values) if frame.any() or options.keep_empty]
    full = 100 if options.kind == "FRACTIONAL" else 1
    return [
        (n, at, frame * full)
        for n, mask in enumerate(arrays, 1)
        for at, frame in enumerate(mask)
        if frame.any() or options.keep_empty
    ]


def outline(mask: np.ndarray) -> list[np.ndarray]:
    """Closed polygons around the pixels of a mask, shape (i, j): corners (i, j), between pixels; holes are polygons."""
    edges: dict[tuple[float, float], list[tuple[float, float]]] = {}
    padded = np.pad(mask, 1)
    for i, j in np.argwhere(mask):
        for (di, dj), start, end in (
            ((0, -1), (-0.5, -0.5), (0.5, -0.5)), ((1, 0), (0.5, -0.5), (0.5, 0.5)),
            ((0, 1), (0.5, 0.5), (-0.5, 0.5)), ((-1, 0), (-0.5, 0.5), (-0.5, -0.5)),
        ):  # fmt: skip
            if not padded[i + 1 + di, j + 1 + dj]:
                edges.setdefault((i + start[0], j + start[1]), []).append((i + end[0], j + end[1]))
    polygons = []
    while edges:
        first = next(iter(edges))
        points: list[tuple[float, float]] = []
        at = first
        while not points or at != first:
            points.append(at)
            following = edges[at].pop()
            if not edges[at]:
                del edges[at]
            at = following
        polygons.append(np.array(points))
    return polygons


def contours_of(mask: np.ndarray, affine: np.ndarray) -> list[np.ndarray]:
    """Contours of a mask, bool, shape (i, j, k), in each slice along k: corners in LPS mm, shape (n, 3)."""
    found = []
    for k in range(mask.shape[2]):
        for polygon in outline(mask[:, :, k]):
            index = np.column_stack([polygon, np.full(len(polygon), float(k))])
            found.append((LPS @ (affine[:3, :3] @ index.T + affine[:3, 3:])).T)
    return found


def write_rtstruct(
    path: Path, regions: Mapping[str, Sequence[np.ndarray]], uid: str = SERIES_UID,
    change: Callable[[Any], None] = lambda header: None,
) -> Path:  # fmt: skip
    """Write contours; of each region a list of corners in LPS mm, shape (n, 3)."""
    header = _header(RTSTRUCT, "RTSTRUCT")
    series = _item(SeriesInstanceUID=uid)
    study = _item(RTReferencedSeriesSequence=[series])
    header.ReferencedFrameOfReferenceSequence = [_item(FrameOfReferenceUID=FRAME, RTReferencedStudySequence=[study])]
    header.StructureSetROISequence = [
        _item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=FRAME) for n, name in enumerate(regions)
    ]
    header.ROIContourSequence = [
        _item(
            ReferencedROINumber=n,
            ROIDisplayColor=[255, 16 * n, 0],
            ContourSequence=[
                _item(
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[_decimal(v) for v in points.ravel()],
                )
                for points in contours
            ],
        )
        for n, contours in enumerate(regions.values())
    ]
    change(header)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def _header(sop_class: str, modality: str) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(f"1.2.9.{modality == 'SEG':d}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID, header.SeriesInstanceUID, header.Modality = "1.2.3", f"1.2.9.9.{len(modality)}", modality
    return header


def _item(**elements: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item
