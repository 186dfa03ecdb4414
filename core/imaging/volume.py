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
from core.imaging.bounded_io import read_exactly
from core.imaging.geometry import Geometry, from_canonical, to_canonical
from core.imaging.header_geometry import UNIT_CODES, UNIT_MM, LengthUnit
from core.imaging.headers import Header, orientation_fields, read_header
from core.imaging.image_files import FOREIGN_FORMATS

__all__ = ["Geometry", "Header", "Volume", "read_header", "read_image", "read_label", "to_stored", "write_label"]

INTENT_LABEL = 1002  # NIfTI's intent code for label maps
LOOK_AT_LABELS = "look at its picture: are the labels right?"
LABEL_TOLERANCE = 1e-3  # largest deviation of a label from a whole number
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
) -> Volume:
    """Read a label map as int32 raw values, shape (1, i, j, k).

    A value is rounded if it deviates from a whole number by no more than 0.001, or by half a scaling step.

    Parameters
    ----------
    geometry : Geometry or None. Replaces the geometry of the header; pass the image's if the voxels of the label
        correspond to those of the image in stored order.
    nan_is_zero : bool. Whether NaN is read as 0.
    nearest : sequence of int. Label values of which each voxel gets the nearest, the lower of two; empty: as stored.

    Raises
    ------
    VolumeError
        If the header or the data is invalid, the file has several channels, or a value is not an integer of 32 bits.
    """
    header = read_header(path)
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
        labels, changed_voxels = _nearest_values(path, values, nearest)
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
            f"{expected} channels that overlap in {overlapping} voxels; decide which class these have, and write one "
            "label per voxel"
        )
    return _canonical(header, one.astype(np.int32), geometry, nan_voxels)


def to_stored(array: np.ndarray, stored: Geometry | Volume) -> np.ndarray:
    """Reorder an array, shape (..., i, j, k), from canonical order to the stored order of a file or volume."""
    return from_canonical(array, stored.stored if isinstance(stored, Volume) else stored)


def write_label(
    path: str | Path, values: np.ndarray, volume: Volume | Geometry, like: str | Path | None = None
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

    Raises
    ------
    VolumeError
        If the name has another ending, ``path`` is the file ``like``, or the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise VolumeError(f"{path}: expected a name ending in .nii or .nii.gz to write to; got {path.name!r}")
    if like is not None and path.exists() and os.path.samefile(path, like):
        raise VolumeError(f"{path}: expected another file to write to than the image itself")
    stored = volume.stored if isinstance(volume, Volume) else volume
    array = from_canonical(np.asarray(values), stored)
    if array.shape != stored.shape:
        raise ValueError(f"expected labels of shape {stored.canonical.shape}, got {np.shape(values)}")
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    dtype = next((t for t in (np.uint8, np.int16) if np.iinfo(t).min <= low and high <= np.iinfo(t).max), np.int32)
    content = _nifti_header(dtype, stored, like) + array.astype(dtype).tobytes(order="F")
    _write_file(path, gzip.compress(content, 5, mtime=0) if path.name.lower().endswith(".gz") else content)


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
        more = f" and {nan_voxels} that are NaN" if nan_voxels else ""
        raise VolumeError(
            f"{path}: expected finite intensities, got {non_finite - nan_voxels} voxels of {data.size} that are "
            f"infinite or beyond 32 bits{more}; replace them and write the file again"
        )
    if not nan_is_zero:
        raise VolumeError(
            f"{path}: expected finite intensities, got {nan_voxels} voxels of {data.size} that are NaN; {NAN_FIX}"
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
            f"{path}: expected whole numbers as labels, got {nan_voxels} voxels of {values.size} that are NaN; "
            f"{NAN_FIX}"
        )


@np.errstate(over="ignore", invalid="ignore")
def whole_numbers(header: Header, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as int32, and a warning if they were rounded visibly.

    Scaled integers may deviate by half a scaling step: writers that store a floating-point array as integers choose a
    slope that does not hit whole numbers. With a step of 1 or more every number would be near one, and none is rounded.

    Raises
    ------
    VolumeError
        If a value deviates more from a whole number, or exceeds 32 bits.
    """
    if np.can_cast(values.dtype, np.int32):
        return values.astype(np.int32, copy=False), ()
    step = abs(header.slope) if header.scaled and np.dtype(header.dtype).kind in "iu" else 0.0
    tolerance = LABEL_TOLERANCE + (step / 2 if step < 1 else 0)
    rounded = np.round(values)
    deviation = np.abs(values - rounded)
    valid = np.isfinite(values) & (np.abs(values) < 2**31) & (deviation <= tolerance)
    if not valid.all():
        examples = ", ".join(f"{v:.10g}" for v in np.unique(values[~valid])[:3])
        scaling = ""
        if header.scaled:
            scaling = f" (stored as {header.dtype} times scl_slope {header.slope:.6g}"
            scaling += f" plus scl_inter {header.intercept:.6g})" if header.intercept else ")"
        raise VolumeError(
            f"{header.path}: expected whole numbers as labels, got {int((~valid).sum())} voxels that are not, such as "
            f"{examples}{scaling}; was it resampled with interpolation? Use nearest neighbour"
        )
    largest = float(deviation.max(initial=0))
    warning = (
        f"labels deviate from whole numbers by up to {largest:.2g}, within half a step of scl_slope "
        f"{header.slope:.6g}: they are rounded; write it again as whole numbers if that is wrong"
    )
    return rounded.astype(np.int32), (warning,) if largest > LABEL_TOLERANCE else ()


def _nearest_values(path: str | Path, values: np.ndarray, allowed: Sequence[int]) -> tuple[np.ndarray, int]:
    """The nearest allowed value of each voxel, int32, and the number of voxels that it changes."""
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise VolumeError(f"{path}: expected finite label values, got infinite ones; correct the file")
    ordered = np.unique(np.asarray(allowed, np.int64))
    limits = (ordered[:-1] + ordered[1:]) / 2
    result = ordered[np.searchsorted(limits, values, side="left")].astype(np.int32)
    return result, int(np.count_nonzero(np.abs(result - values.astype(np.float64)) > LABEL_TOLERANCE))


def _canonical(
    header: Header, data: np.ndarray, geometry: Geometry | None, nan_voxels: int, warnings: tuple[str, ...] = ()
) -> Volume:
    stored = header.geometry if geometry is None else geometry
    assert stored.shape == header.shape
    return Volume(np.ascontiguousarray(to_canonical(data, stored)), stored.canonical, stored, nan_voxels, warnings)


def _nifti_header(dtype: type, stored: Geometry, like: str | Path | None) -> bytes:
    """A NIfTI-1 header with an empty extension, 352 bytes."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(stored.shape)
    header.set_data_dtype(dtype)
    header.set_intent(INTENT_LABEL)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 352
    unit, copied = ("mm", None) if like is None else _unit_and_orientation(like, stored)
    header["xyzt_units"] = UNIT_CODES[unit]
    header.set_zooms([size / UNIT_MM[unit] for size in stored.spacing_mm])
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
