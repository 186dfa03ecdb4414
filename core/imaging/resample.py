"""Resampling between voxel sizes: separable linear interpolation, anti-aliased where the grid gets coarser.

Both grids cover the same box: the centre of new voxel n lies at (n + 0.5) * old / new - 0.5 old voxels. Where the
grid gets coarser the linear kernel is widened by that factor, so every old voxel counts (as in Pillow's and torch's
antialias). Outside the box the kernel is cut off and its weights renormalised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.types import Size3, SpacingMm


def resampled_shape(shape: Sequence[int], spacing_from: Sequence[float], spacing_to: Sequence[float]) -> Size3:
    """round(shape * from / to) along i, j, k, at least 1. Spacings in mm."""
    i, j, k = (
        max(1, round(n * source / target)) for n, source, target in zip(shape, spacing_from, spacing_to, strict=True)
    )
    return i, j, k


def resampled_spacing(shape_from: Sequence[int], spacing_from: Sequence[float], shape_to: Sequence[int]) -> SpacingMm:
    """The voxel size in mm after resampling to a shape: the box stays, so it differs a little from what was asked
    for."""
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
    image : shape (channels, i, j, k), any numeric dtype.
    spacing_from, spacing_to : voxel sizes in mm along i, j, k.
    shape_to : the new shape (i, j, k) instead of spacings.

    Returns
    -------
    float32, shape (channels, *new shape); a copy also where the shape stays.
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
    """Resample class indices: each class as a linear 0-1 image, then the class with the largest share (the lower
    index wins a tie). Smoother than nearest neighbour, and thin structures survive as long as they hold the largest
    share.

    Parameters
    ----------
    label : integer class indices, shape (i, j, k).
    shape_to : the new shape (i, j, k).

    Returns
    -------
    Same dtype, the new shape; a copy also where the shape stays.
    """
    shape = tuple(int(n) for n in shape_to)
    if shape == label.shape:
        return label.copy()
    result = np.zeros(shape, label.dtype)
    best = np.zeros(shape, np.float32)
    for value in np.unique(label):
        share = resample_image((label == value)[None], shape_to=shape)[0]
        wins = share > best + 1e-6
        result[wins] = value
        best[wins] = share[wins]
    return result


def _weights(old: int, new: int) -> np.ndarray:
    """Interpolation matrix, float32, shape (new, old); rows sum to 1."""
    scale = old / new
    width = max(1.0, scale)
    centres = (np.arange(new) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(old)[None] - centres[:, None]) / width)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
