"""An image that was decoded from another format than NIfTI: what the decoding process passes to its parent.

Imports neither the readers of the formats nor the headers that are made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.formatting import format_size
from core.imaging.bounded_io import MAX_DEFLATE_RATIO, cut_off, refuse_bomb, refuse_too_large
from core.imaging.segments import SegmentTable
from core.types import Size3

HEADER_FILE, VOXEL_FILE = "header.json", "voxels.raw"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM and ITK: x to the left, y to posterior
LimitMemory = Callable[[int], None]  # called with the bytes that decoding may take


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """Shape, type and geometry of decoded voxels; the voxels are a file of one number after the other, i fastest.

    Attributes
    ----------
    shape : tuple of int. Voxels along i, j, k, in the order of the file.
    channels : int. Channels, the slowest axis of the voxels.
    dtype : str. numpy name of the type, little-endian.
    affine : list of list of float, shape (4, 4). Voxel index to RAS mm; voxel sizes where the orientation is unknown.
    oriented : bool. Whether the file states its orientation.
    slope, intercept : float. Intensity = slope * stored value + intercept.
    notes, warnings : list of str. As in :class:`core.imaging.headers.Header`.
    segments : SegmentTable or None. What the voxels mean, where they are named segments instead of intensities.
    """

    shape: Size3
    channels: int
    dtype: str
    affine: list[list[float]]
    oriented: bool
    slope: float = 1.0
    intercept: float = 0.0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    segments: SegmentTable | None = None

    @classmethod
    def read(cls, folder: Path) -> DecodedImage:
        """The image in a folder, without its voxels.

        Raises
        ------
        OSError, ValueError, KeyError, TypeError
            If there is none, or it is damaged.
        """
        content: dict[str, Any] = json.loads((folder / HEADER_FILE).read_text("utf-8"))
        i, j, k = content.pop("shape")
        notes, warnings = tuple(content.pop("notes")), tuple(content.pop("warnings"))
        table = content.pop("segments", None)
        segments = None if table is None else SegmentTable.from_json(table)
        shape = (int(i), int(j), int(k))
        return cls(shape=shape, notes=notes, warnings=warnings, segments=segments, **content)

    def write(self, folder: Path, voxels: np.ndarray) -> None:
        """Write the image into a folder; voxels of shape (channel, k, j, i)."""
        little = np.dtype(self.dtype).newbyteorder("<")
        with open(folder / VOXEL_FILE, "wb") as file:
            for channel in voxels:
                file.write(np.ascontiguousarray(channel, little).data.cast("B"))
        (folder / HEADER_FILE).write_text(json.dumps(asdict(self)), "utf-8")


def check_decoded_size(path: Path, shape: tuple[int, ...], itemsize: int, file_bytes: int, compressed: bool) -> int:
    """Bytes of an image as its header states them, before anything is allocated for them.

    Parameters
    ----------
    shape : tuple of int. Sizes of all axes, channels included.
    itemsize : int. Bytes of a voxel.
    file_bytes : int. Size of the files that hold the voxels.
    compressed : bool. Whether the voxels may be compressed in them.

    Raises
    ------
    VolumeError
        If a size is below 1, the files cannot hold as much, or it exceeds ``SEGMENTARIUM_MAX_BYTES``.
    """
    text = format_size(shape)
    if not shape or any(n < 1 for n in shape):
        raise VolumeError(f"{path}: expected every dimension to be at least 1, got {text}; the header is damaged")
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    nbytes = voxels * itemsize
    refuse_too_large(path, max(nbytes, voxels * 4), text)
    if nbytes > file_bytes * (MAX_DEFLATE_RATIO if compressed else 1):
        raise VolumeError(cut_off(path, nbytes))
    if compressed:
        refuse_bomb(path, nbytes, file_bytes)
    return nbytes
