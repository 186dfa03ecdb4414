"""Resampling to another voxel size: separable linear interpolation, anti-aliased when downsampling.

Both grids cover the same box: the centre of new voxel n is at (n + 0.5) * old / new - 0.5 old voxels. For downsampling
the linear kernel is widened by the factor old / new (as ``antialias`` of Pillow and torch). At the border the kernel is
truncated and renormalised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.types import Size3, SpacingMm


def resampled_shape(shape: Sequence[int], spacing_from: Sequence[float], spacing_to: Sequence[float]) -> Size3:
    """The shape round(shape * from / to), at least 1 along each axis; spacings in mm."""
    i, j, k = (
        max(1, round(n * source / target)) for n, source, target in zip(shape, spacing_from, spacing_to, strict=True)
    )
    return i, j, k


def resampled_spacing(shape_from: Sequence[int], spacing_from: Sequence[float], shape_to: Sequence[int]) -> SpacingMm:
    """The voxel size in mm after resampling to a shape. The box is kept, so it differs slightly from the target."""
    i, j, k = (size * n / m for size, n, m in zip(spacing_from, shape_from, shape_to, strict=True))
    return i, j, k


def resample_image(
    image: np.ndarray,
    spacing_from: Sequence[float] | None = None,
    spacing_to: Sequence[float] | None = None,
    *,
    shape_to: Sequence[int] | None = None,
) -> np.ndarray:
    """Resample an image or class probabilities.

    Parameters
    ----------
    image : ndarray, any numeric dtype, shape (channel, i, j, k).
    spacing_from, spacing_to : sequence of float. Old and new voxel size in mm along i, j, k.
    shape_to : sequence of int. New shape (i, j, k), instead of spacings.

    Returns
    -------
    ndarray, float32, shape (channel, *new shape). Always a copy.
    """
    if shape_to is None:
        if spacing_from is None or spacing_to is None:
            raise ValueError("expected spacing_from and spacing_to, or shape_to")
        shape_to = resampled_shape(image.shape[1:], spacing_from, spacing_to)
    result = np.array(image, np.float32)
    for axis, size in enumerate(shape_to, start=1):
        if result.shape[axis] != size:
            weights = _weights(result.shape[axis], size)
            result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def resample_label(label: np.ndarray, shape_to: Sequence[int]) -> np.ndarray:
    """Resample a label map: each class as a 0-1 image, then per voxel the class with the largest share.

    Smoother than nearest neighbour. The lower index wins a tie.

    Parameters
    ----------
    label : ndarray, integer, shape (i, j, k). Class indices.
    shape_to : sequence of int. New shape (i, j, k).

    Returns
    -------
    ndarray, same dtype, the new shape. Always a copy.
    """
    shape = tuple(int(n) for n in shape_to)
    if shape == label.shape:
        return label.copy()
    result = np.zeros(shape, label.dtype)
    largest = np.zeros(shape, np.float32)
    for value in np.unique(label):
        share = resample_image((label == value)[None], shape_to=shape)[0]
        wins = share > largest + 1e-6
        result[wins] = value
        largest[wins] = share[wins]
    return result


def resample_nearest(values: np.ndarray, shape_to: Sequence[int]) -> np.ndarray:
    """Resample without interpolation: each new voxel has the value of the old voxel in which its centre lies.

    Parameters
    ----------
    values : ndarray, any dtype, shape (..., i, j, k).
    shape_to : sequence of int. New shape (i, j, k).

    Returns
    -------
    ndarray, same dtype, shape (..., *new shape). ``values`` itself where the shape is the same.
    """
    for axis, size in zip((-3, -2, -1), shape_to, strict=True):
        old = values.shape[axis]
        if old != size:
            values = np.take(values, ((np.arange(size) + 0.5) * old / size).astype(np.intp), axis=axis)
    return values


def _weights(old: int, new: int) -> np.ndarray:
    """Interpolation matrix, float32, shape (new, old); rows sum to 1."""
    scale = old / new
    width = max(1.0, scale)
    centres = (np.arange(new) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(old)[None] - centres[:, None]) / width)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
