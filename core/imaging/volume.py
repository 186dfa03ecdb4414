"""Reads images and label maps in canonical RAS order, and writes label maps in the geometry of the image file.

The only module that reads or writes voxels of image files. Every fault of a file is a
:class:`~core.errors.VolumeError` that names it.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import VolumeError
from core.files import atomic_write
from core.imaging.bounded_io import read_exactly
from core.imaging.geometry import Geometry, from_canonical, to_canonical
from core.imaging.headers import Header, orientation_fields, read_header

__all__ = ["Geometry", "Header", "Volume", "read_header", "read_image", "read_label", "to_stored", "write_label"]

INTENT_LABEL = 1002  # NIfTI's intent code for label maps


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels of a file in canonical order.

    Attributes
    ----------
    data : ndarray, C-contiguous, shape (channel, i, j, k). float32 intensities, or int32 raw label values.
    geometry : Geometry. Canonical, of ``data``.
    stored : Geometry. Of the file; label maps are written in it.
    """

    data: np.ndarray
    geometry: Geometry
    stored: Geometry


def read_image(path: str | Path, channel: int | None = None, *, geometry: Geometry | None = None) -> Volume:
    """Read intensities as float32, scaled by the file's slope and intercept.

    Parameters
    ----------
    channel : int or None. Index of one channel of a 4-D file; ``None`` reads all channels.
    geometry : Geometry or None. Replaces the geometry of the header; same shape.

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
        data = _scaled(header, stored if channel is None else stored[channel : channel + 1]).astype(
            np.float32, copy=False
        )
    non_finite = data.size - int(np.count_nonzero(np.isfinite(data)))
    if non_finite:
        raise VolumeError(
            f"{path}: expected finite intensities, got {non_finite} voxels of {data.size} that are NaN or infinite; "
            "replace them (often by 0) and write the file again"
        )
    return _canonical(header, data, geometry)


def read_label(path: str | Path, *, geometry: Geometry | None = None) -> Volume:
    """Read a label map as int32 raw values, shape (1, i, j, k).

    Parameters
    ----------
    geometry : Geometry or None. Replaces the geometry of the header; pass the image's if the voxels of the label
        correspond to those of the image in stored order.

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
    values = _scaled(header, _read_stored(header))
    if not np.can_cast(values.dtype, np.int32):
        valid = np.isfinite(values) & (np.abs(values) < 2**31)
        valid[valid] = values[valid] == np.round(values[valid])
        if not valid.all():
            examples = ", ".join(f"{v:g}" for v in np.unique(values[~valid])[:3])
            raise VolumeError(
                f"{path}: expected whole numbers as labels, got {int((~valid).sum())} voxels that are not, such as "
                f"{examples}; was it resampled with interpolation? Use nearest neighbour"
            )
    return _canonical(header, values.astype(np.int32, copy=False), geometry)


def to_stored(array: np.ndarray, stored: Geometry | Volume) -> np.ndarray:
    """Reorder an array, shape (..., i, j, k), from canonical order to the stored order of a file or volume."""
    return from_canonical(array, stored.stored if isinstance(stored, Volume) else stored)


def write_label(
    path: str | Path, values: np.ndarray, volume: Volume | Geometry, like: str | Path | None = None
) -> None:
    """Write a label map as NIfTI-1 in the geometry of the image that was segmented, atomically.

    The orientation codes are those of the image. If its orientation is unknown, sform and qform code are 0, so that
    no reader assumes a left and right.

    Parameters
    ----------
    path : str or Path. Ends in .nii or .nii.gz; an existing file is replaced.
    values : ndarray, integer, shape (i, j, k). Raw label values in canonical order.
    volume : Volume or Geometry. The segmented image, or the geometry of its file.
    like : str, Path or None. The file of the image, whose sform and qform are copied; without it the sform is written
        from the geometry, with code 1.

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
    voxels = header.nbytes // np.dtype(header.dtype).itemsize
    raw = read_exactly(header.data_path, header.offset, header.nbytes, extra=4 * voxels, image=image)
    values = raw.view(np.dtype(header.dtype).newbyteorder(header.byte_order))
    return values.reshape((header.channels, *header.shape[::-1])).transpose(0, 3, 2, 1)


@np.errstate(over="ignore", invalid="ignore")
def _scaled(header: Header, stored: np.ndarray) -> np.ndarray:
    """Apply slope and intercept; in float64, so that scaled integers stay integers."""
    if not header.scaled:
        return stored
    return stored.astype(np.float64) * header.slope + header.intercept


def _canonical(header: Header, data: np.ndarray, geometry: Geometry | None) -> Volume:
    stored = header.geometry if geometry is None else geometry
    assert stored.shape == header.shape
    return Volume(np.ascontiguousarray(to_canonical(data, stored)), stored.canonical, stored)


def _nifti_header(dtype: type, stored: Geometry, like: str | Path | None) -> bytes:
    """A NIfTI-1 header with an empty extension, 352 bytes."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(stored.shape)
    header.set_data_dtype(dtype)
    header.set_intent(INTENT_LABEL)
    header.set_slope_inter(1, 0)
    header.set_zooms(stored.spacing_mm)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    if like is not None and stored.oriented and read_header(like).geometry == stored:
        for name, value in orientation_fields(Path(like)).items():
            header[name] = value
    elif stored.oriented:
        header.set_sform(stored.affine, 1)
        header.set_qform(stored.affine, 1, strip_shears=True)
    return header.binaryblock + b"\0\0\0\0"


def _write_file(path: Path, content: bytes) -> None:
    try:
        atomic_write(path, content, durable=True)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be written: {error.strerror or error}; choose another folder") from error
