"""Arrays in a file that has no name: the system keeps as much of them in memory as it has room for."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class MappedArrays:
    """Read-only copies of arrays, in one file that is removed with the last reference to this object and to them.

    Parameters
    ----------
    folder : Path. Folder of the file, created if missing.
    arrays : sequence of ndarray.

    Attributes
    ----------
    arrays : tuple of ndarray. The copies, C-contiguous.
    nbytes : int. Size of the file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """

    def __init__(self, folder: Path, arrays: Sequence[np.ndarray]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        offsets = []
        with tempfile.TemporaryFile(dir=folder) as file:
            for array in arrays:
                file.seek(-file.tell() % mmap.PAGESIZE, 1)
                offsets.append(file.tell())
                file.write(np.ascontiguousarray(array).data)
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.nbytes = len(self._map)
        self.arrays = tuple(
            np.frombuffer(self._map, array.dtype, array.size, offset).reshape(array.shape)
            for array, offset in zip(arrays, offsets, strict=True)
        )

    def release(self) -> None:
        """Return the memory of what was read, where the system can; it is read again when it is needed."""
        with contextlib.suppress(AttributeError, OSError):
            self._map.madvise(mmap.MADV_DONTNEED)
