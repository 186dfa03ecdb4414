"""Evenly spaced sample of the voxels of a large volume, and the bounding box of its content by that sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.imaging.mapped_volume import Box
from core.types import Size3

SAMPLED_VOXELS = 2e6  # from which range, window and content of a channel are computed


def sample_box(shape: Size3) -> Box:
    """Slices (i, j, k) that take evenly spaced voxels of a volume of this shape, about ``SAMPLED_VOXELS`` in all."""
    step = max(1, int(np.ceil((np.prod(shape, dtype=float) / SAMPLED_VOXELS) ** (1 / 3))))
    i, j, k = (slice(min(step, n) // 2, None, step) for n in shape)
    return i, j, k


def content_box(mask: np.ndarray, shape: Size3) -> list[tuple[int, int]] | None:
    """Bounding box that holds the content of a volume, as first and last voxel of each axis.

    Parameters
    ----------
    mask : ndarray, bool, shape of the sample. Whether each voxel of :func:`sample_box` is content.
    shape : tuple of int. Voxels of the volume along i, j, k.

    Returns
    -------
    list of (int, int), or None. Up to the next sampled voxels without content; ``None`` if no voxel is content.
    """
    if not mask.any():
        return None
    sides = []
    for axis, side in enumerate(sample_box(shape)):
        first, last = extent(np.asarray(mask.any(axis=tuple(a for a in range(3) if a != axis))))
        start, step = side.start or 0, side.step or 1
        sides.append((max(0, start + (first - 1) * step + 1), min(shape[axis] - 1, start + (last + 1) * step - 1)))
    return sides


def extent(occupied: np.ndarray) -> tuple[int, int]:
    """First and last index of the true elements of a bool array of shape (n,), of which there is at least one."""
    found = np.flatnonzero(occupied)
    return int(found[0]), int(found[-1])


def union(boxes: Sequence[list[tuple[int, int]] | None]) -> list[tuple[int, int]] | None:
    """Smallest box that holds all boxes but those that are ``None``; ``None`` if all are."""
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    return [(min(box[a][0] for box in known), max(box[a][1] for box in known)) for a in range(3)]
