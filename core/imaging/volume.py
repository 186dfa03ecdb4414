"""One image with its geometry: read in canonical RAS order, written in the order and place of the file it came from.

Nothing else in the program opens image files. Everything wrong with one is a :class:`~core.errors.VolumeError` that
names the file.
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
from core.imaging.headers import Header, inspect, orientation_fields

__all__ = ["Geometry", "Header", "Volume", "inspect", "read_image", "read_label", "to_stored", "write_label"]

INTENT_LABEL = 1002  # NIfTI's intent code for label maps


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels in canonical order.

    Attributes
    ----------
    data : shape (channels, i, j, k), C-contiguous; float32 intensities, or int32 raw label values.
    geometry : of ``data``; canonical.
    stored : of the file; outputs go back to it.
    """

    data: np.ndarray
    geometry: Geometry
    stored: Geometry


def read_image(path: str | Path, channel: int | None = None, *, geometry: Geometry | None = None) -> Volume:
    """Read intensities as float32, with the file's own scaling applied.

    Parameters
    ----------
    channel : one channel of a 4-D file; ``None`` reads all of them.
    geometry : how the voxels lie, where that is known better than the file knows it (same shape).

    Raises
    ------
    VolumeError
        If the header or the data is wrong (see :func:`core.imaging.headers.inspect`), the channel does not exist, or an
        intensity is not a finite number.
    """
    header = inspect(path)
    if channel is not None and not 0 <= channel < header.channels:
        raise VolumeError(f"{path}: expected at least {channel + 1} channels, got {header.channels}")
    stored = _stored(header, image=True)
    with np.errstate(over="ignore", invalid="ignore"):
        data = _scaled(header, stored if channel is None else stored[channel : channel + 1]).astype(
            np.float32, copy=False
        )
    wrong = data.size - int(np.count_nonzero(np.isfinite(data)))
    if wrong:
        raise VolumeError(
            f"{path}: expected finite intensities, got {wrong} voxels of {data.size} that are NaN or infinite; "
            "replace them (often by 0) and write the file again"
        )
    return _canonical(header, data, geometry)


def read_label(path: str | Path, *, geometry: Geometry | None = None) -> Volume:
    """Read a label map: raw values as the file has them, int32, shape (1, i, j, k).

    ``geometry`` is as in :func:`read_image`: pass the image's where a label's voxels line up with it as stored.

    Raises
    ------
    VolumeError
        If the header or the data is wrong, the file has several channels, or a value is not a whole number within
        int32.
    """
    header = inspect(path)
    if header.channels != 1:
        raise VolumeError(
            f"{path}: expected a 3-D label map, got {header.channels} channels; write one label per voxel"
        )
    values = _scaled(header, _stored(header))
    if not np.can_cast(values.dtype, np.int32):
        whole = np.isfinite(values) & (np.abs(values) < 2**31)
        whole[whole] = values[whole] == np.round(values[whole])
        if not whole.all():
            examples = ", ".join(f"{v:g}" for v in np.unique(values[~whole])[:3])
            raise VolumeError(
                f"{path}: expected whole numbers as labels, got {int((~whole).sum())} voxels that are not, such as "
                f"{examples}; was it resampled with interpolation? Use nearest neighbour"
            )
    return _canonical(header, values.astype(np.int32, copy=False), geometry)


def to_stored(array: np.ndarray, stored: Geometry | Volume) -> np.ndarray:
    """Bring an array (..., i, j, k) from canonical order to the order of the file it belongs to."""
    return from_canonical(array, stored.stored if isinstance(stored, Volume) else stored)


def write_label(
    path: str | Path, values: np.ndarray, volume: Volume | Geometry, like: str | Path | None = None
) -> None:
    """Write a label map as NIfTI-1 in the orientation and place of the image it belongs to.

    The file appears complete or not at all. Orientation codes are the input's; an input of unknown orientation gives
    sform and qform code 0, so that nobody takes an invented left and right for a known one.

    Parameters
    ----------
    path : ends in .nii or .nii.gz; an existing file is replaced.
    values : raw label values in canonical order, integer, shape (i, j, k).
    volume : the image that was segmented, or the geometry of its file.
    like : its file, from which qform and sform are copied exactly; without it the sform says where the voxels lie
        (code 1).

    Raises
    ------
    VolumeError
        If the name ends otherwise, it would replace ``like``, or the file cannot be written.
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
    small, large = int(array.min(initial=0)), int(array.max(initial=0))
    dtype = np.uint8 if small >= 0 and large <= 255 else np.int16 if small >= -(2**15) and large < 2**15 else np.int32
    content = _nifti_header(dtype, stored, like) + array.astype(dtype).tobytes(order="F")
    _write(path, gzip.compress(content, 5, mtime=0) if path.name.lower().endswith(".gz") else content)


def _stored(header: Header, *, image: bool = False) -> np.ndarray:
    """The stored numbers, shape (channels, i, j, k), in the file's own axis and byte order."""
    voxels = header.nbytes // np.dtype(header.dtype).itemsize
    raw = read_exactly(header.data_path, header.offset, header.nbytes, extra=4 * voxels, image=image)
    numbers = raw.view(np.dtype(header.dtype).newbyteorder(header.byte_order))
    return numbers.reshape((header.channels, *header.shape3[::-1])).transpose(0, 3, 2, 1)


@np.errstate(over="ignore", invalid="ignore")
def _scaled(header: Header, stored: np.ndarray) -> np.ndarray:
    """Stored numbers to intensities; float64 where they are scaled, so that whole numbers stay whole."""
    if not header.scaled:
        return stored
    return stored.astype(np.float64) * header.slope + header.intercept


def _canonical(header: Header, data: np.ndarray, geometry: Geometry | None) -> Volume:
    stored = header.geometry if geometry is None else geometry
    assert stored.shape == header.shape3
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
    if like is not None and stored.oriented and inspect(like).geometry == stored:
        for name, value in orientation_fields(Path(like)).items():
            header[name] = value
    elif stored.oriented:
        header.set_sform(stored.affine, 1)
        header.set_qform(stored.affine, 1, strip_shears=True)
    return header.binaryblock + b"\0\0\0\0"


def _write(path: Path, content: bytes) -> None:
    try:
        atomic_write(path, content, durable=True)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error
