"""Reads parts of large image files: intensities or labels of a box, in canonical order, without the rest in memory.

The voxels of a plain file are read where they are. Those of a gzipped file are decompressed once, into another file.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import VolumeError
from core.files import atomic_replace
from core.imaging.bounded_io import decompress_pieces, is_gzip
from core.imaging.geometry import Geometry, to_canonical
from core.imaging.headers import Header
from core.imaging.label_numbers import whole_numbers
from core.imaging.volume import scaled
from core.types import Size3

Box = tuple[slice, slice, slice]
PART_BYTES = 8 * 2**20  # of stored voxels that are read at a time


@dataclass(frozen=True)
class SlicePlace:
    """Where a slice lies in a file.

    Attributes
    ----------
    axis : int. Canonical axis across the slice: the one that is stored slowest.
    number : int. Number of the slice along it.
    end : int. Position after its last byte.
    """

    axis: int
    number: int
    end: int


@dataclass(frozen=True)
class MappedVolume:
    """The voxels of a file, of which parts are read.

    Attributes
    ----------
    header : Header. Header of the file.
    geometry : Geometry. Geometry of the file in stored order; may replace that of the header, same shape.
    path : Path. File with the uncompressed voxels (:func:`uncompressed`).
    offset : int. Position of the first voxel in ``path``, in bytes.
    nan_is_zero : bool. Whether NaN is read as 0.
    """

    header: Header
    geometry: Geometry
    path: Path
    offset: int
    nan_is_zero: bool = False

    @property
    def shape(self) -> Size3:
        """Voxels along i, j, k in canonical order."""
        return self.geometry.canonical.shape

    def intensities(self, box: Box, channel: int = 0) -> np.ndarray:
        """Intensities of a box, float32, shape (i, j, k), i fastest in memory.

        Raises
        ------
        VolumeError
            If one is not finite, or the file cannot be read.
        """
        result = np.empty(self._size(box), np.float32, order="F")
        for target, stored in self._parts(box, channel):
            with np.errstate(over="ignore", invalid="ignore"):
                values = scaled(self.header, stored).astype(np.float32, copy=False)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                values = self._without_nan(values)
            result[target] = values
        return result

    def labels(self, box: Box) -> np.ndarray:
        """Raw labels of a box, int32, shape (i, j, k), i fastest in memory.

        Raises
        ------
        VolumeError
            If a value is not a whole number, or the file cannot be read.
        """
        result = np.empty(self._size(box), np.int32, order="F")
        for target, stored in self._parts(box, 0):
            values = scaled(self.header, stored)
            if self.nan_is_zero and values.dtype.kind == "f":
                values = np.where(np.isnan(values), 0, values)
            result[target], _ = whole_numbers(self.header, values)
        return result

    def slice_at(self, share: float, channel: int = 0) -> SlicePlace:
        """A slice across the axis that is stored slowest, which can be read before the whole file is there.

        Parameters
        ----------
        share : float. Share of the slices that are stored before it: 0.5 for the middle one.
        channel : int. Channel of the file.

        Raises
        ------
        VolumeError
            If the file cannot be read.
        """
        _, view = self._view(channel)
        axis = int(np.argmax(np.abs(view.strides)))
        length, stride = view.shape[axis], view.strides[axis]
        stored = min(int(share * length), length - 1)
        number = stored if stride > 0 else length - 1 - stored
        start = self.offset + channel * (self.header.nbytes // self.header.channels)
        return SlicePlace(axis, number, start + (stored + 1) * abs(stride))

    def _size(self, box: Box) -> Size3:
        i, j, k = (len(range(*side.indices(n))) for side, n in zip(box, self.shape, strict=True))
        return i, j, k

    def _parts(self, box: Box, channel: int) -> Iterator[tuple[Box, np.ndarray]]:
        """Parts of a box along the axis that is stored slowest: where they belong, and the stored values.

        The memory of a part is returned before the next one is read.
        """
        mapped, whole = self._view(channel)
        view = whole[box]
        slowest = int(np.argmax(np.abs(view.strides)))
        bytes_per_slice = max(1, abs(view.strides[slowest]))
        count = max(1, PART_BYTES // bytes_per_slice)
        for first in range(0, view.shape[slowest], count):
            part: list[slice] = [slice(None)] * 3
            part[slowest] = slice(first, first + count)
            index = (part[0], part[1], part[2])
            yield index, np.asarray(view[index])
            with contextlib.suppress(AttributeError, OSError):
                mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def _view(self, channel: int) -> tuple[np.memmap, np.ndarray]:
        """The mapped file, and its voxels of a channel in canonical order."""
        header = self.header
        try:
            mapped = np.memmap(
                self.path,
                np.dtype(header.dtype).newbyteorder(header.byte_order),
                "r",
                self.offset,
                (header.channels, *header.shape[::-1]),
            )
        except (OSError, ValueError) as error:
            raise VolumeError(f"{header.path}: cannot be read: {error}") from error
        return mapped, to_canonical(mapped.transpose(0, 3, 2, 1), self.geometry)[channel]

    def _without_nan(self, values: np.ndarray) -> np.ndarray:
        nan = np.isnan(values)
        if not self.nan_is_zero or np.isinf(values).any():
            kind = "NaN" if nan.any() else "infinite or beyond 32 bits"
            remedy = "let NaN be read as 0 (--nan-is-zero)" if nan.any() else "replace them and write the file again"
            raise VolumeError(f"{self.header.path}: expected finite intensities, got some that are {kind}; {remedy}")
        return np.where(nan, np.float32(0), values)


def uncompressed(
    header: Header,
    target: Path,
    on_progress: Callable[[float], None] = lambda share: None,
    on_written: Callable[[Path, int], None] = lambda path, count: None,
) -> tuple[Path, int]:
    """A file that holds the voxels of an image uncompressed, and the position of the first one.

    Parameters
    ----------
    header : Header. Header of the image.
    target : Path. File that is written where the image is gzipped, unless it exists; its folder must exist.
    on_progress : callable. Called with the share that is decompressed, from 0 to 1.
    on_written : callable. Called with the file of full size that is being written, and how many of its bytes are there.

    Raises
    ------
    VolumeError
        If the image is cut off, longer than its header says, damaged or a decompression bomb, or has no room.
    """
    path, size = header.data_path, header.offset + header.nbytes
    found = path.stat().st_size
    # The voxels of a pair have no header, and may begin like gzip by chance.
    if not is_gzip(path) or (found == size and path.suffix.lower() != ".gz"):
        if found != size:
            raise VolumeError(f"{path}: expected {size} bytes according to its header, got {found}; copy it again")
        return path, header.offset
    if target.is_file() and target.stat().st_size == size:
        return target, header.offset
    try:
        with atomic_replace(target) as temporary, open(temporary, "wb") as file:
            written = 0
            file.truncate(size)
            for piece in decompress_pieces(path, size, image=True):
                file.write(piece)
                written += len(piece)
                file.flush()
                on_progress(written / size)
                on_written(Path(temporary), written)
    except OSError as error:
        raise VolumeError(
            f"{target.parent}: expected room for the uncompressed voxels of {path}: {error.strerror or error}"
        ) from error
    return target, header.offset
