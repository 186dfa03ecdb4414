"""Voxels of a label map that a rule selects, such as a class: evenly strided ones, and their share of a box.

A label map in memory is read once. Of one that is mapped from a file only a count for each slice is kept, so that a
data set of any size can be drawn from: voxels are looked up when they are needed. Both give the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np

from core.types import Size3, VoxelIndex

MAX_VOXELS = 50_000  # of a set, evenly strided, from which one is chosen

Selects = Callable[[np.ndarray], np.ndarray]  # which voxels of a label map, or of a part of it, belong to the set


class VoxelSet(Protocol):
    """Voxels of one label map."""

    def __len__(self) -> int:
        """Number of evenly strided voxels."""

    def __getitem__(self, index: int) -> np.ndarray:
        """One of them, int16, shape (3,)."""

    @property
    def is_all(self) -> bool:
        """Whether every voxel of the label map belongs to the set."""

    def share(self, start: VoxelIndex, size: Size3) -> float:
        """Share of a box that belongs to the set; what lies outside of the label map does not."""


def voxel_set(label: np.ndarray, selects: Selects) -> VoxelSet:
    """The voxels of a label map, shape (i, j, k), that a rule selects."""
    return _MappedSet(label, selects) if isinstance(label, np.memmap) else _ArraySet(label, selects)


class _ArraySet:
    """Voxels of a label map in memory."""

    def __init__(self, label: np.ndarray, selects: Selects) -> None:
        mask = selects(label)
        flat = np.flatnonzero(mask)
        self.is_all = flat.size == mask.size
        flat = flat[:: _stride(flat.size)]
        self._voxels = np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.int16)
        self._label, self._selects = label, selects

    def __len__(self) -> int:
        return len(self._voxels)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self._voxels[index])

    def share(self, start: VoxelIndex, size: Size3) -> float:
        lows, highs = _inside(start, size, self._label.shape)
        total = 0
        for corner in range(8):
            index = tuple(highs[axis] if corner >> axis & 1 else lows[axis] for axis in range(3))
            total += int(self._table[index]) * (1 if bin(corner).count("1") % 2 else -1)
        return total / float(np.prod(size))

    @cached_property
    def _table(self) -> np.ndarray:
        """Summed-volume table (Crow 1984, in 3D) with a leading zero plane on each axis, int32."""
        mask = self._selects(self._label)
        table = np.zeros([n + 1 for n in mask.shape], np.int32)
        table[1:, 1:, 1:] = mask.astype(np.int32).cumsum(0).cumsum(1).cumsum(2)
        return table


class _MappedSet:
    """Voxels of a label map in a file."""

    def __init__(self, label: np.ndarray, selects: Selects) -> None:
        self._label, self._selects = label, selects
        self._ends = np.cumsum([np.count_nonzero(selects(part)) for part in label])
        self._stride = _stride(int(self._ends[-1]))
        self.is_all = int(self._ends[-1]) == label.size

    def __len__(self) -> int:
        return math.ceil(int(self._ends[-1]) / self._stride)

    def __getitem__(self, index: int) -> np.ndarray:
        place = index * self._stride
        i = int(np.searchsorted(self._ends, place, side="right"))
        before = int(self._ends[i - 1]) if i else 0
        part = self._label[i]
        j, k = np.unravel_index(np.flatnonzero(self._selects(part))[place - before], part.shape)
        return np.array((i, j, k), np.int16)

    def share(self, start: VoxelIndex, size: Size3) -> float:
        lows, highs = _inside(start, size, self._label.shape)
        i, j, k = (slice(low, high) for low, high in zip(lows, highs, strict=True))
        return int(np.count_nonzero(self._selects(self._label[i, j, k]))) / float(np.prod(size))


def _stride(count: int) -> int:
    return max(1, count // MAX_VOXELS)


def _inside(start: VoxelIndex, size: Size3, shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """First voxels of a box, and those after its last ones, within a label map."""
    lows = [min(max(first, 0), n) for first, n in zip(start, shape, strict=True)]
    highs = [min(max(first + length, 0), n) for first, length, n in zip(start, size, shape, strict=True)]
    return lows, highs
