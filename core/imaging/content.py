"""The content of an image: the smallest box around all voxels that are not 0, to which images can be cropped."""

from __future__ import annotations

import numpy as np

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
