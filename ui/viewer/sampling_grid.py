"""Evenly spaced voxels of a large volume, and where its content is by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.imaging.mapped_volume import Box
from core.types import Size3

SAMPLED_VOXELS = 2e6  # from which range, window and content of a channel are computed


def sample_box(shape: Size3) -> Box:
    """Evenly spaced voxels along each axis, about ``SAMPLED_VOXELS`` in all."""
    step = max(1, int(np.ceil((np.prod(shape, dtype=float) / SAMPLED_VOXELS) ** (1 / 3))))
    i, j, k = (slice(min(step, n) // 2, None, step) for n in shape)
    return i, j, k


def content_box(mask: np.ndarray, shape: Size3) -> list[tuple[int, int]] | None:
    """Bounding box of the true voxels of a sample, in voxels of the volume."""
    if not mask.any():
        return None
    sides = []
    for axis, side in enumerate(sample_box(shape)):
        first, last = extent(np.asarray(mask.any(axis=tuple(a for a in range(3) if a != axis))))
        start, step = side.start or 0, side.step or 1
        sides.append((max(0, start + (first - 1) * step + 1), min(shape[axis] - 1, start + (last + 1) * step - 1)))
    return sides


def extent(occupied: np.ndarray) -> tuple[int, int]:
    """First and last place of an axis that is true; one is."""
    found = np.flatnonzero(occupied)
    return int(found[0]), int(found[-1])


def union(boxes: Sequence[list[tuple[int, int]] | None]) -> list[tuple[int, int]] | None:
    """Bounding box of all boxes that there are."""
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    return [(min(box[a][0] for box in known), max(box[a][1] for box in known)) for a in range(3)]
