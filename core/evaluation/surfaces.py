"""Surfaces of masks, and the distances between them.

The surface of a structure is the set of its voxels that a 6-connected erosion removes; the outside of the volume counts
as another class. In a volume of one slice it is the outline within the slice. Distances are between voxel centres, with
the voxel size of each axis, or with the affine where the voxel axes are not at right angles.

At import the module needs only numpy; scipy is imported on first use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from core.imaging.geometry import SHEAR_TOLERANCE_DEG, shear_deg

PERCENTILE = 95.0
TOLERANCES_MM = (0.5, 1.0, 2.0, 3.0, 5.0)  # of the surface Dice
ROUNDING = 1e-4  # relative: voxel sizes in files are rounded, and a voxel of 1 mm is within a tolerance of 1 mm


# Voxel size in mm along i, j, k; or steps in mm along i, j, k as columns of a matrix.
VoxelMm: TypeAlias = Sequence[float] | npt.NDArray[np.float64]
# Distances from each surface voxel of one mask to the surface of the other, both ways; empty where a mask is empty.
Directed: TypeAlias = tuple[npt.NDArray[np.float64], ...]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the surfaces of two masks, in mm; NaN where a mask is empty."""

    hd95_mm: float
    asd_mm: float


def surface_distances(truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm) -> SurfaceDistances:
    """HD95 and ASD of two masks; parameters and errors as for :func:`directed_mm`."""
    return distances_of(directed_mm(truth, prediction, voxel_mm))


def surface_dice(
    truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm, tolerances_mm: Sequence[float] = TOLERANCES_MM
) -> dict[str, float]:
    """Normalised surface Dice of two masks; parameters and errors as for :func:`directed_mm`, result as for
    :func:`surface_dice_of`."""
    directed = directed_mm(truth, prediction, voxel_mm)
    return surface_dice_of(directed, tolerances_mm, is_absent=not (truth.any() or prediction.any()))


def directed_mm(truth: np.ndarray, prediction: np.ndarray, voxel_mm: VoxelMm) -> Directed:
    """Distances from the surface of each of two masks to that of the other.

    Parameters
    ----------
    truth, prediction : ndarray, bool, shape (i, j, k).
    voxel_mm : sequence of float, or ndarray of shape (3, 3). Voxel size along i, j, k; or the steps to the neighbouring
        voxel along i, j, k as columns, which need not be at right angles.

    Returns
    -------
    tuple of ndarray, float64. For each voxel of the truth's surface, and for each of the prediction's; empty if a mask
    is empty.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"expected masks of one shape, got {truth.shape} and {prediction.shape}")
    axes_mm = axes_mm_of(voxel_mm)
    if not truth.any() or not prediction.any():
        return ()
    box = bounding_box(truth | prediction)
    axes = tuple(axis for axis, n in enumerate(truth.shape) if n > 1) or None
    surfaces = surface_of(truth[box], axes), surface_of(prediction[box], axes)
    return tuple(nearest_mm(surface, other, axes_mm) for surface, other in (surfaces, surfaces[::-1]))


def distances_of(directed: Directed) -> SurfaceDistances:
    """HD95 and ASD of directed distances; NaN if there are none."""
    if not directed:
        return SurfaceDistances(math.nan, math.nan)
    hd95 = max(np.percentile(d, PERCENTILE) for d in directed)
    return SurfaceDistances(float(hd95), float(np.concatenate(directed).mean()))


def surface_dice_of(
    directed: Directed, tolerances_mm: Sequence[float] = TOLERANCES_MM, *, is_absent: bool
) -> dict[str, float]:
    """Normalised surface Dice for each tolerance, by :func:`tolerance_key`.

    Parameters
    ----------
    directed : tuple of ndarray. Result of :func:`directed_mm`.
    tolerances_mm : sequence of float.
    is_absent : bool. Whether both masks are empty.

    Returns
    -------
    dict. Share of the surface voxels of both masks whose distance is at most the tolerance; NaN where both masks are
    empty, 0 where one is.
    """
    if not directed:
        return {tolerance_key(tolerance): math.nan if is_absent else 0.0 for tolerance in tolerances_mm}
    pooled = np.concatenate(directed)
    return {tolerance_key(t): float(np.mean(pooled <= t * (1 + ROUNDING))) for t in tolerances_mm}


def tolerance_key(tolerance_mm: float) -> str:
    """Name of a tolerance in scores: its number of millimetres, ``"0.5"`` or ``"1"``."""
    return f"{tolerance_mm:g}"


def axes_mm_of(voxel_mm: VoxelMm) -> np.ndarray:
    """Steps along i, j, k in mm as columns, float64, shape (3, 3).

    Raises
    ------
    ValueError
        If there are not three, or one has no length.
    """
    given = np.asarray(voxel_mm, np.float64)
    axes = np.diag(given) if given.shape == (3,) else given
    positive = given.shape == (3, 3) or bool((given > 0).all())
    if axes.shape != (3, 3) or not positive or not np.isfinite(axes).all() or abs(np.linalg.det(axes)) == 0:
        raise ValueError(f"expected three positive voxel sizes, or three steps in mm, got {given.tolist()}")
    return axes


def nearest_mm(surface: np.ndarray, other: np.ndarray, axes_mm: np.ndarray) -> np.ndarray:
    """Distance from each voxel of a mask to the nearest one of another, neither of them empty; float64, in the order of
    the mask's voxels."""
    from scipy import ndimage, spatial

    if shear_deg(axes_mm) <= SHEAR_TOLERANCE_DEG:
        distances = ndimage.distance_transform_edt(~other, sampling=np.linalg.norm(axes_mm, axis=0))
        return np.asarray(distances)[surface]
    points, targets = (np.argwhere(mask) @ axes_mm.T for mask in (surface, other))
    return np.asarray(spatial.cKDTree(targets).query(points)[0])


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Bounding box of a non-empty mask."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        indices = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return tuple(box)


def surface_of(mask: np.ndarray, axes: Sequence[int] | None = None) -> np.ndarray:
    """Voxels of a mask that a 6-connected erosion removes; the outside of the array is empty.

    Parameters
    ----------
    mask : ndarray, bool, shape (i, j, k).
    axes : sequence of int, optional. Axes along which it erodes; all by default.
    """
    padded = np.pad(mask, 1)
    eroded = mask.copy()
    for axis in range(mask.ndim) if axes is None else axes:
        for shift in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(shift, shift + mask.shape[axis])
            eroded &= padded[tuple(window)]
    return mask & ~eroded
