"""Decodes a DICOM series or an enhanced multi-frame file to one volume, and label maps on the grid of a series.

Only in the process of ``core.imaging.decoder``. pydicom decodes plain and run-length encoded pixels, SimpleITK (GDCM)
the other compressions.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.formatting import format_size
from core.imaging.decoded_image import LPS_TO_RAS, DecodedImage, LimitMemory, check_decoded_size
from core.imaging.dicom_placing import PlacedPlanes, place
from core.imaging.dicom_planes import Plane, find_planes
from core.imaging.dicom_rtstruct import read_contours
from core.imaging.dicom_seg import read_segmentation
from core.imaging.image_files import dicom_class, label_object

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
FILE_BYTES = 64 * 2**20  # of elements beside the pixels


def read_dicom(path: Path, limit_memory: LimitMemory) -> tuple[DecodedImage, np.ndarray]:
    """Decode the image in a folder of DICOM files, or that of which a file is a part; or a segmentation or contours.

    Returns
    -------
    DecodedImage, and ndarray of shape (channel, k, j, i).

    Raises
    ------
    VolumeError
        If there is no image, several, slices are missing, or a file is damaged.
    """
    label = label_object(path)
    if label is not None:
        contours = dicom_class(label) == RTSTRUCT
        return read_contours(label, limit_memory) if contours else read_segmentation(label, limit_memory)
    planes, notes, warnings = find_planes(path)
    placed = place(path, planes)
    first, files = planes[0], {plane.file for plane in planes}
    slices, channels = len(placed.planes[0]), len(placed.planes)
    shape = (first.columns, first.rows, slices, channels)
    file_bytes = sum(file.stat().st_size for file in files)
    nbytes = check_decoded_size(path, shape, max(1, first.bits // 8), file_bytes, compressed=True)
    largest = max(file.stat().st_size for file in files)
    limit_memory(4 * nbytes * max(1, 32 // first.bits) + 4 * largest + FILE_BYTES)
    stored, slope, intercept, problem = _read_pixels(placed)
    warnings += [*placed.warnings, *([problem] if problem else [])]
    image = DecodedImage(
        shape=(first.columns, first.rows, slices),
        channels=channels,
        dtype=stored.dtype.name,
        affine=(LPS_TO_RAS @ placed.affine if placed.oriented else placed.affine).tolist(),
        oriented=placed.oriented,
        slope=slope,
        intercept=intercept,
        notes=(*notes, *placed.notes),
        warnings=tuple(warnings),
    )
    return image, stored


def _read_pixels(placed: PlacedPlanes) -> tuple[np.ndarray, float, float, str]:
    """Stored values, shape (channel, k, j, i), slope and intercept; a warning if units differ.

    Where slices are scaled differently (positron emission, some magnetic resonance) the values are scaled, as float32.
    """
    where = {(p.file, p.frame): (c, k) for c, stack in enumerate(placed.planes) for k, p in enumerate(stack)}
    result: np.ndarray | None = None
    scalings: dict[tuple[int, int], tuple[float, float]] = {}
    units: set[str] = set()
    for file in dict.fromkeys(file for file, _ in where):
        first = next(plane for stack in placed.planes for plane in stack if plane.file == file)
        header, frames = _frames(file, first)
        units.add(str(header.get("Units", "")))
        for number, pixels in enumerate(frames):
            place = where.get((file, number))
            if place is None:
                continue
            if result is None:
                result = np.zeros((len(placed.planes), len(placed.planes[0]), *pixels.shape), pixels.dtype)
            elif result.dtype != pixels.dtype:
                result = result.astype(np.promote_types(result.dtype, pixels.dtype))
            result[place] = pixels
            scalings[place] = _scaling(file, header, number)
    assert result is not None
    missing = len(where) - len(scalings)
    if missing:
        raise VolumeError(
            f"{placed.planes[0][0].file.parent}: expected {len(where)} slices, got {missing} fewer; copy it again"
        )
    problem = f"its slices are in different units: {' and '.join(sorted(units))}" if len(units) > 1 else ""
    if len(set(scalings.values())) == 1:
        return result, *next(iter(scalings.values())), problem
    scaled = np.empty(result.shape, np.float32)
    for place, (slope, intercept) in scalings.items():
        scaled[place] = result[place] * slope + intercept
    return scaled, 1.0, 0.0, problem


def _frames(file: Path, plane: Plane) -> tuple[Any, Iterable[np.ndarray]]:
    """Header and frames of a file, each of shape (row, column)."""
    import pydicom

    try:
        header = pydicom.dcmread(file, force=True)
        if "ModalityLUTSequence" in header:
            raise VolumeError(f"{file}: expected a linear scaling of its values, got a table; convert it with dcm2niix")
        if not any(name in header for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise VolumeError(f"{file}: expected pixels, got none; the file is cut off, copy it again")
        pixels = _decoded(file, header)
    except VolumeError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged pixels raise any exception
        text = " ".join(f"{error}".split())[:160]
        raise VolumeError(
            f"{file}: its pixels cannot be decoded ({text}); copy it again, or convert it with dcm2niix"
        ) from None
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or pixels.shape[1:] != (plane.rows, plane.columns) or pixels.dtype.kind not in "iuf":
        raise VolumeError(
            f"{file}: expected frames of {plane.rows} rows and {plane.columns} columns of numbers, got "
            f"{format_size(pixels.shape)} of type {pixels.dtype}"
        )
    return header, pixels


def _decoded(file: Path, header: Any) -> np.ndarray:
    """Stored values of all frames."""
    try:
        return np.asarray(header.pixel_array)
    except (RuntimeError, NotImplementedError, AttributeError, ImportError):
        if not header.file_meta.TransferSyntaxUID.is_compressed:
            raise
    scalings = {_scaling(file, header, frame) for frame in range(int(header.get("NumberOfFrames", 1) or 1))}
    if len(scalings) > 1:  # GDCM applies a scaling itself; which one to each frame is not known
        raise VolumeError(
            f"{file}: expected one intensity scaling for its compressed frames, got {len(scalings)}; convert it with "
            "dcm2niix, or decompress it with gdcmconv --raw"
        )
    import SimpleITK as sitk

    image = sitk.ReadImage(str(file), imageIO="GDCMImageIO")
    values = sitk.GetArrayFromImage(image)
    slope, intercept = _scaling(file, header, 0)
    if (slope, intercept) == (1.0, 0.0):
        return np.asarray(values)
    stored = (values - intercept) / slope  # GDCM has applied the scaling
    return np.round(stored).astype(np.int32)


def _scaling(file: Path, header: Any, frame: int) -> tuple[float, float]:
    """Rescale slope and intercept of a frame."""
    source = header
    for name, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = header.get(name)
        if items and index < len(items) and items[index].get("PixelValueTransformationSequence"):
            source = items[index].PixelValueTransformationSequence[0]
            break
    slope, intercept = (float(source.get(n, d)) for n, d in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)))
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise VolumeError(
            f"{file}: expected a finite intensity scaling, got slope {slope:g} and intercept {intercept:g}"
        )
    return slope, intercept
