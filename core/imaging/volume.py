"""Reads images and label maps in canonical RAS order, and writes label maps in the geometry of the image file.

The only module that reads whole files, and the only one that writes them; :mod:`core.imaging.mapped_volume` reads parts
of large ones. Every fault of a file is a :class:`~core.errors.VolumeError` that names it.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.files import atomic_write
from core.formatting import format_count
from core.imaging.bounded_io import read_exactly
from core.imaging.geometry import Geometry, from_canonical, to_canonical
from core.imaging.header_geometry import UNIT_CODES, UNIT_MM, LengthUnit
from core.imaging.headers import Header, orientation_fields, read_header
from core.imaging.image_files import FOREIGN_FORMATS
from core.imaging.label_numbers import LABEL_TOLERANCE, nearest_values, whole_numbers
from core.imaging.segments import SegmentValues, refuse_segments, segment_values

__all__ = [
    "Geometry",
    "Header",
    "Volume",
    "read_header",
    "read_image",
    "read_label",
    "to_stored",
    "write_label",
    "write_map",
]

INTENT_LABEL = 1002  # NIfTI's intent code for label maps
LOOK_AT_LABELS = "look at its picture: are the labels right?"
NAN_FIX = "where they lie outside the field of view, let NaN be read as 0 (--nan-is-zero)"


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels of a file in canonical order.

    Attributes
    ----------
    data : ndarray, C-contiguous, shape (channel, i, j, k). float32 intensities, or int32 raw label values.
    geometry : Geometry. Canonical, of ``data``.
    stored : Geometry. Of the file; label maps are written in it.
    nan_voxels : int. Values of ``data`` that are NaN in the file and were read as 0.
    warnings : tuple of str. What was assumed about the values, each as a clause about the file with a remedy.
    changed_voxels : int. Label values that are no label of the data set and were read as the nearest one.
    """

    data: np.ndarray
    geometry: Geometry
    stored: Geometry
    nan_voxels: int = 0
    warnings: tuple[str, ...] = ()
    changed_voxels: int = 0


def read_image(
    path: str | Path, channel: int | None = None, *, geometry: Geometry | None = None, nan_is_zero: bool = False
) -> Volume:
    """Read intensities as float32, scaled by the file's slope and intercept.

    Parameters
    ----------
    channel : int or None. Index of one channel of a 4-D file; ``None`` reads all channels.
    geometry : Geometry or None. Replaces the geometry of the header; same shape.
    nan_is_zero : bool. Whether NaN is read as 0. Infinite intensities are refused either way.

    Raises
    ------
    VolumeError
        If the header or the data is invalid (see :func:`core.imaging.headers.read_header`), the channel does not
        exist, or an intensity is not finite.
    """
    header = read_header(path)
    refuse_segments(header.path, header.segments)
    if channel is not None and not 0 <= channel < header.channels:
        raise VolumeError(f"{path}: expected at least {channel + 1} channels, got {header.channels}")
    stored = _read_stored(header, image=True)
    with np.errstate(over="ignore", invalid="ignore"):
        data = scaled(header, stored if channel is None else stored[channel : channel + 1]).astype(
            np.float32, copy=False
        )
    data, nan_voxels = _checked_finite(path, data, nan_is_zero)
    return _canonical(header, data, geometry, nan_voxels)


def read_label(
    path: str | Path,
    *,
    geometry: Geometry | None = None,
    nan_is_zero: bool = False,
    nearest: Sequence[int] = (),
    segments: SegmentValues | None = None,
) -> Volume:
    """Read a label map as int32 raw values, shape (1, i, j, k).

    A value is rounded if it deviates from a whole number by no more than 0.001, or by half a scaling step.

    Parameters
    ----------
    geometry : Geometry or None. Replaces the geometry of the header; pass the image's if the voxels of the label
        correspond to those of the image in stored order.
    nan_is_zero : bool. Whether NaN is read as 0.
    nearest : sequence of int. Label values of which each voxel gets the nearest, the lower of two; empty: as stored.
    segments : SegmentValues, optional. Values of named segments (DICOM SEG, RTSTRUCT); their numbers by default.

    Raises
    ------
    VolumeError
        If the header or the data is invalid, the file has several channels, or a value is not an integer of 32 bits;
        or if named segments overlap.
    """
    header = read_header(path)
    if header.segments is not None:
        stored = _read_stored(header)
        return _canonical(header, segment_values(header.path, header.segments, stored, segments), geometry, 0)
    if header.channels != 1:
        raise VolumeError(
            f"{path}: expected a 3-D label map, got {header.channels} channels; write one label per voxel"
        )
    values = scaled(header, _read_stored(header))
    nan_voxels = 0
    if nan_is_zero:
        values, nan_voxels = _with_nan_as_zero(values)
    else:
        _refuse_nan_labels(path, values)
    if nearest:
        labels, changed_voxels = nearest_values(path, values, nearest)
        counted = f"{changed_voxels} voxel{'s have' if changed_voxels > 1 else ' has'} a value"
        warning = f"{counted} that is no label: the nearest one is read; {LOOK_AT_LABELS}"
        volume = _canonical(header, labels, geometry, nan_voxels, (warning,) if changed_voxels else ())
        return replace(volume, changed_voxels=changed_voxels)
    labels, warnings = whole_numbers(header, values)
    return _canonical(header, labels, geometry, nan_voxels, warnings)


def read_one_hot(path: str | Path, *, geometry: Geometry | None = None, nan_is_zero: bool = False) -> Volume:
    """Read a label map that holds 0 and 1 in a channel for each class, int32, shape (channel, i, j, k).

    Parameters
    ----------
    geometry, nan_is_zero : as in :func:`read_label`.

    Raises
    ------
    VolumeError
        If the header or the data is invalid, a value is neither 0 nor 1, or a voxel has 1 in several channels.
    """
    header = read_header(path)
    expected = f"{path}: expected 1 channel, or 0 and 1 in a channel for each class (one-hot), got {header.channels}"
    values = scaled(header, _read_stored(header))
    nan_voxels = 0
    if nan_is_zero:
        values, nan_voxels = _with_nan_as_zero(values)
    one = np.isclose(values, 1, rtol=0, atol=LABEL_TOLERANCE)
    if not (one | np.isclose(values, 0, rtol=0, atol=LABEL_TOLERANCE)).all():
        raise VolumeError(f"{expected} channels with other values; write one label per voxel")
    overlapping = int(np.count_nonzero(one.sum(axis=0) > 1))
    if overlapping:
        raise VolumeError(
            f"{expected} channels that overlap in {format_count(overlapping, 'voxel')}; decide which class these have, "
            "and write one label per voxel"
        )
    return _canonical(header, one.astype(np.int32), geometry, nan_voxels)


def to_stored(array: np.ndarray, stored: Geometry | Volume) -> np.ndarray:
    """Reorder an array, shape (..., i, j, k), from canonical order to the stored order of a file or volume."""
    return from_canonical(array, stored.stored if isinstance(stored, Volume) else stored)


def write_label(
    path: str | Path,
    values: np.ndarray,
    volume: Volume | Geometry,
    like: str | Path | None = None,
    description: str = "",
) -> None:
    """Write a label map as NIfTI-1 in the geometry of the image that was segmented, atomically.

    The unit of length and the orientation codes are those of the image. If its orientation is unknown, sform and qform
    code are 0, so that no reader assumes a left and right.

    Parameters
    ----------
    path : str or Path. Ends in .nii or .nii.gz; an existing file is replaced.
    values : ndarray, integer, shape (i, j, k). Raw label values in canonical order.
    volume : Volume or Geometry. The segmented image, or the geometry of its file.
    like : str, Path or None. The file of the image, whose unit, sform and qform are copied; without it the sform is
        written from the geometry in mm, with code 1.
    description : str. What the values mean, in the header; ASCII, at most 79 characters.

    Raises
    ------
    VolumeError
        If the name has another ending, ``path`` is the file ``like``, or the file cannot be written.
    """
    low, high = int(np.min(values, initial=0)), int(np.max(values, initial=0))
    dtype = next((t for t in (np.uint8, np.int16) if np.iinfo(t).min <= low and high <= np.iinfo(t).max), np.int32)
    _write_nifti(Path(path), np.asarray(values).astype(dtype), volume, like, description)


def write_map(
    path: str | Path,
    values: np.ndarray,
    volume: Volume | Geometry,
    like: str | Path | None = None,
    description: str = "",
) -> None:
    """Write a number per voxel as float32 NIfTI-1 in the geometry of an image, as :func:`write_label` does.

    Parameters
    ----------
    values : ndarray, float, shape (i, j, k), or (channel, i, j, k) for a 4-D file. In canonical order.

    The other parameters and the errors are those of :func:`write_label`.
    """
    _write_nifti(Path(path), np.asarray(values, np.float32), volume, like, description)


def _read_stored(header: Header, *, image: bool = False) -> np.ndarray:
    """Stored values, shape (channel, i, j, k), in the file's axis and byte order."""
    if header.format in FOREIGN_FORMATS and not header.data_path.exists():
        header = read_header(header.path)  # its decoded voxels were removed from the cache
    voxels = header.nbytes // np.dtype(header.dtype).itemsize
    raw = read_exactly(header.data_path, header.offset, header.nbytes, extra=4 * voxels, image=image)
    values = raw.view(np.dtype(header.dtype).newbyteorder(header.byte_order))
    return values.reshape((header.channels, *header.shape[::-1])).transpose(0, 3, 2, 1)


@np.errstate(over="ignore", invalid="ignore")
def scaled(header: Header, stored: np.ndarray) -> np.ndarray:
    """Apply slope and intercept; in float64, so that scaled integers stay integers."""
    if not header.scaled:
        return stored
    return stored.astype(np.float64) * header.slope + header.intercept


def _checked_finite(path: str | Path, data: np.ndarray, nan_is_zero: bool) -> tuple[np.ndarray, int]:
    """Intensities without NaN, and how many were NaN.

    Raises
    ------
    VolumeError
        If an intensity is infinite, or is NaN and NaN is not read as 0.
    """
    non_finite = data.size - int(np.count_nonzero(np.isfinite(data)))
    if not non_finite:
        return data, 0
    data, nan_voxels = _with_nan_as_zero(data)
    if non_finite > nan_voxels:
        more = f", and NaN in {nan_voxels:,}" if nan_voxels else ""
        raise VolumeError(
            f"{path}: expected finite intensities, got infinity or values beyond 32 bits in "
            f"{format_count(non_finite - nan_voxels, 'voxel')} of {data.size:,}{more}; replace them and write the file "
            "again"
        )
    if not nan_is_zero:
        raise VolumeError(
            f"{path}: expected finite intensities, got NaN in {format_count(nan_voxels, 'voxel')} of {data.size:,}; "
            f"{NAN_FIX}"
        )
    return data, nan_voxels


def _with_nan_as_zero(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values with 0 instead of NaN, and how many were NaN."""
    if values.dtype.kind != "f":
        return values, 0
    nan = np.isnan(values)
    nan_voxels = int(np.count_nonzero(nan))
    return (np.where(nan, np.zeros((), values.dtype), values) if nan_voxels else values), nan_voxels


def _refuse_nan_labels(path: str | Path, values: np.ndarray) -> None:
    if values.dtype.kind != "f":
        return
    nan_voxels = int(np.count_nonzero(np.isnan(values)))
    if nan_voxels:
        raise VolumeError(
            f"{path}: expected whole numbers as labels, got NaN in {format_count(nan_voxels, 'voxel')} of "
            f"{values.size:,}; {NAN_FIX}"
        )


def _canonical(
    header: Header, data: np.ndarray, geometry: Geometry | None, nan_voxels: int, warnings: tuple[str, ...] = ()
) -> Volume:
    stored = header.geometry if geometry is None else geometry
    assert stored.shape == header.shape
    return Volume(np.ascontiguousarray(to_canonical(data, stored)), stored.canonical, stored, nan_voxels, warnings)


def _write_nifti(
    path: Path, values: np.ndarray, volume: Volume | Geometry, like: str | Path | None, description: str
) -> None:
    """Write values in canonical order, shape (i, j, k) or (channel, i, j, k), in their type; errors are those of
    :func:`write_label`."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise VolumeError(f"{path}: expected a name ending in .nii or .nii.gz to write to; got {path.name!r}")
    if like is not None and os.path.exists(path) and os.path.samefile(path, like):
        raise VolumeError(f"{path}: expected another file to write to than the image itself")
    stored = volume.stored if isinstance(volume, Volume) else volume
    array = from_canonical(values, stored)
    if array.shape[-3:] != stored.shape or array.ndim > 4:
        raise ValueError(f"expected values of shape {stored.canonical.shape}, got {np.shape(values)}")
    array = np.moveaxis(array, 0, -1) if array.ndim == 4 else array
    content = _nifti_header(array, stored, like, description) + array.tobytes(order="F")
    _write_file(path, gzip.compress(content, 5, mtime=0) if path.name.lower().endswith(".gz") else content)


def _nifti_header(array: np.ndarray, stored: Geometry, like: str | Path | None, description: str) -> bytes:
    """A NIfTI-1 header of an array in stored order with an empty extension, 352 bytes."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    if array.dtype.kind in "iu":
        header.set_intent(INTENT_LABEL)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 352
    header["descrip"] = description.encode("ascii")
    unit, copied = ("mm", None) if like is None else _unit_and_orientation(like, stored)
    header["xyzt_units"] = UNIT_CODES[unit]
    header.set_zooms([size / UNIT_MM[unit] for size in stored.spacing_mm] + [1.0] * (array.ndim - 3))
    if copied is not None:
        for name, value in copied.items():
            header[name] = value
    elif stored.oriented:
        affine = np.diag([1 / UNIT_MM[unit]] * 3 + [1.0]) @ stored.affine
        header.set_sform(affine, 1)
        header.set_qform(affine, 0 if stored.is_sheared else 1, strip_shears=True)  # a qform cannot hold a shear
    return header.binaryblock + b"\0\0\0\0"


def _unit_and_orientation(like: str | Path, stored: Geometry) -> tuple[LengthUnit, dict[str, Any] | None]:
    """Unit of length of a file, and its orientation fields if they give the geometry.

    A file without a unit may have been read in that of the other files of its subject.
    """
    source = read_header(like)
    units = tuple(UNIT_MM) if source.unit == "unknown" else (source.unit,)
    for unit in sorted(units, key=lambda unit: unit != source.unit):
        if stored.oriented and source.in_unit(unit).geometry == stored:
            return unit, orientation_fields(source.path) or None
    return source.unit, None


def _write_file(path: Path, content: bytes) -> None:
    try:
        atomic_write(path, content, durable=True)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be written: {error.strerror or error}; choose another folder") from error
