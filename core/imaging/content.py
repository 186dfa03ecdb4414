"""The content of an image: the smallest box around all voxels that are not 0, to which images can be cropped; and which
of its channels have any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

LEAST = 2.0**-25  # magnitudes up to it are 0 in half precision, in which training keeps images
SLAB = 8  # slices that are looked at together

Box = tuple[slice, slice, slice]  # along i, j, k


def content_box(image: np.ndarray, label: np.ndarray | None = None) -> Box:
    """The box of the voxels of an image in which any channel is not 0; the whole image where all are 0.

    Parameters
    ----------
    image : ndarray, shape (channel, i, j, k).
    label : ndarray, shape (i, j, k), optional. A label map: its labelled voxels are in the box too.
    """
    found = (image != 0).any(axis=0)
    if label is not None:
        found |= label != 0
    if not found.any():
        i, j, k = found.shape
        return slice(0, i), slice(0, j), slice(0, k)
    i, j, k = (_range(found.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    return i, j, k


def present_channels(image: Iterable[Any]) -> tuple[bool, ...]:
    """Which channels of a whole image have a voxel that is not 0, also one that is not finite: those of modalities that
    the case has an image of.

    It looks at slices from the middle outwards and stops at the first such voxel, so that little is read of an image
    that is mapped from disk.

    Parameters
    ----------
    image : ndarray or Tensor, shape (channel, i, j, k). A tensor on a GPU is waited for.
    """
    return tuple(_has_content(channel) for channel in image)


def _has_content(channel: Any) -> bool:
    starts = sorted(range(0, len(channel), SLAB), key=lambda start: abs(2 * start + SLAB - len(channel)))
    return not all(bool((abs(channel[start : start + SLAB]) <= LEAST).all()) for start in starts)  # NaN is not 0


def embed(values: np.ndarray, box: Box, around: np.ndarray) -> np.ndarray:
    """Put the values of a box back into the whole grid.

    Parameters
    ----------
    values : ndarray, shape (..., i, j, k) of the box.
    around : ndarray, shape (..., i, j, k) of the grid, of the same type. The values outside of the box; is changed.

    Returns
    -------
    ndarray. ``around``, or ``values`` itself where the box is the whole grid.
    """
    if values.shape == around.shape:
        return values
    around[(..., *box)] = values
    return around


def _range(occupied: np.ndarray) -> slice:
    where = np.flatnonzero(occupied)
    return slice(int(where[0]), int(where[-1]) + 1)
