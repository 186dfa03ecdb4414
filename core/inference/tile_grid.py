"""Positions of the tiles of sliding-window inference."""

from __future__ import annotations

import math

from core.types import Size3


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First voxel of each tile along one axis; the last tile ends at the edge of the volume.

    Parameters
    ----------
    length, tile : int. Voxels of the volume and of a tile along the axis.
    overlap : float. Share of a tile that the next one covers too, 0 to below 1.
    """
    if tile >= length:
        return [0]
    stride = max(1, int(tile * (1 - overlap)))
    count = math.ceil((length - tile) / stride) + 1
    return [min(n * stride, length - tile) for n in range(count)]


def number_of_tiles(shape: Size3, tile: Size3, overlap: float) -> int:
    """Number of tiles that a volume is segmented in."""
    return math.prod(len(tile_starts(n, t, overlap)) for n, t in zip(shape, tile, strict=True))
