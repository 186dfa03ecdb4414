"""Geometry of an image: shape, affine and orientation; reordering to canonical axes; comparison of two geometries.

World coordinates are RAS millimetres: x to the patient's right, y to anterior, z to superior. *Canonical* order means
axes permuted and flipped, never interpolated, so that i, j, k run as closely as possible along x, y, z.

Voxel axes need not be at right angles (a computed tomography with a tilted gantry is *sheared*): the volume of a voxel
is the determinant of the affine, not the product of the voxel sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.formatting import format_size
from core.types import Affine, Size3, SpacingMm

AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
SHEAR_TOLERANCE_DEG = 0.1  # a smaller deviation from right angles changes distances by less than a thousandth
OBLIQUE_TOLERANCE_DEG = 0.5
DIRECTION_DIGITS = 5  # of cosines; those in 32 bits have seven


@dataclass(frozen=True, eq=False)
class Geometry:
    """Shape, affine and orientation of one image.

    Attributes
    ----------
    shape : tuple of int. Voxels along i, j, k.
    affine : ndarray, float64, shape (4, 4). Voxel index to RAS mm; for an unknown orientation the voxel sizes on the
        diagonal.
    oriented : bool. Whether the file states its orientation; without one, axes are never flipped or permuted.
    """

    shape: Size3
    affine: Affine
    oriented: bool = True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        same = self.shape == other.shape and self.oriented == other.oriented
        return same and np.array_equal(self.affine, other.affine)

    __hash__ = None  # type: ignore[assignment]

    @property
    def spacing_mm(self) -> SpacingMm:
        """Voxel size along i, j, k in mm: the distance of neighbouring voxels."""
        a, b, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(a), float(b), float(c)

    @property
    def axes_mm(self) -> np.ndarray:
        """Steps from a voxel to its neighbours along i, j, k, in mm; the columns of a matrix, float64, shape (3, 3)."""
        return self.affine[:3, :3]

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm3."""
        return float(abs(np.linalg.det(self.axes_mm)))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml; of a sheared grid less than the product of the voxel sizes."""
        return self.voxel_volume_mm3 / 1000

    @property
    def shear_deg(self) -> float:
        """Largest deviation of two voxel axes from a right angle, in degrees."""
        return shear_deg(self.axes_mm)

    @property
    def is_sheared(self) -> bool:
        """Whether the voxel axes are not at right angles."""
        return self.shear_deg > SHEAR_TOLERANCE_DEG

    @property
    def obliqueness_deg(self) -> float:
        """Largest angle between a voxel axis and the world axis that it follows, in degrees; 0 for an unknown
        orientation."""
        if not self.oriented:
            return 0.0
        world_axes, _ = _axis_directions(self)
        along = np.abs(self.axes_mm[list(world_axes), range(3)]) / np.array(self.spacing_mm)
        return float(np.rad2deg(np.arccos(np.clip(along, 0, 1))).max())

    @property
    def tilt(self) -> str:
        """How the voxel axes deviate from the world axes, as text: "sheared 30°", "oblique 12°", or empty."""
        if self.is_sheared:
            return f"sheared {self.shear_deg:.3g}°"
        return f"oblique {self.obliqueness_deg:.3g}°" if self.obliqueness_deg >= OBLIQUE_TOLERANCE_DEG else ""

    @property
    def axis_codes(self) -> tuple[str, str, str]:
        """Directions in which i, j, k grow, out of R/L, A/P, S/I; ``?`` for an unknown orientation."""
        if not self.oriented:
            return "?", "?", "?"
        world_axes, signs = _axis_directions(self)
        a, b, c = (AXIS_LETTERS[axis][sign > 0] for axis, sign in zip(world_axes, signs, strict=True))
        return a, b, c

    @property
    def file_axes(self) -> tuple[tuple[int, bool], ...]:
        """For each axis as stored, the canonical axis that it becomes and whether it is reversed."""
        if not self.oriented:
            return (0, False), (1, False), (2, False)
        return tuple((axis, sign < 0) for axis, sign in zip(*_axis_directions(self), strict=True))

    @property
    def canonical(self) -> Geometry:
        """The geometry after :func:`to_canonical`; unchanged for an unknown orientation."""
        if not self.oriented:
            return self
        world_axes, signs = _axis_directions(self)
        order = np.argsort(world_axes)
        reorder = np.zeros((4, 4))  # canonical voxel index to stored voxel index
        reorder[3, 3] = 1
        for new, old in enumerate(order):
            reorder[old, new] = signs[old]
            reorder[old, 3] = 0 if signs[old] > 0 else self.shape[old] - 1
        i, j, k = (self.shape[old] for old in order)
        return Geometry((i, j, k), self.affine @ reorder, True)

    def scaled(self, factor: float) -> Geometry:
        """The geometry with all lengths multiplied by a factor."""
        return Geometry(self.shape, np.diag([factor, factor, factor, 1.0]) @ self.affine, self.oriented)


def shear_deg(axes: np.ndarray) -> float:
    """Largest deviation of two axes from a right angle, in degrees.

    Parameters
    ----------
    axes : ndarray, shape (3, 3). The axes as columns, of any length above 0.
    """
    directions = axes / np.linalg.norm(axes, axis=0)
    cosines = (directions.T @ directions)[np.triu_indices(3, 1)]
    return float(np.rad2deg(np.arcsin(np.clip(np.abs(cosines), 0, 1))).max())


def to_canonical(array: np.ndarray, stored: Geometry) -> np.ndarray:
    """Reorder an array from stored to canonical order.

    Parameters
    ----------
    array : ndarray, shape (..., i, j, k), in stored order.
    stored : Geometry. Geometry of the file.

    Returns
    -------
    A view of the array.
    """
    if not stored.oriented:
        return array
    world_axes, signs = _axis_directions(stored)
    leading = array.ndim - 3
    return array[_flips(leading, signs)].transpose(
        *range(leading), *(leading + int(old) for old in np.argsort(world_axes))
    )


def from_canonical(array: np.ndarray, stored: Geometry) -> np.ndarray:
    """The inverse of :func:`to_canonical`: a view, shape (..., i, j, k), in stored order."""
    if not stored.oriented:
        return array
    world_axes, signs = _axis_directions(stored)
    leading = array.ndim - 3
    return array.transpose(*range(leading), *(leading + axis for axis in world_axes))[_flips(leading, signs)]


def corner_distance_mm(one: Geometry, other: Geometry) -> float:
    """Largest distance, in mm, between the same corner voxels of two geometries of one shape."""
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(one.shape) - 1
    return float(np.linalg.norm((corners @ (one.affine - other.affine).T)[:, :3], axis=1).max())


def format_mm(values: Sequence[float] | np.ndarray, separator: str = " x ") -> str:
    """Lengths in mm as text, without the unit."""
    return separator.join(f"{v:.4g}" for v in values)


def geometry_difference(expected: Geometry, found: Geometry, tolerance: float = 0.1) -> str | None:
    """Describe how two geometries differ.

    Pass canonical geometries to compare positions in the patient independently of the order of the stored axes. If
    either orientation is unknown, only shape and voxel size are compared.

    Parameters
    ----------
    tolerance : float. Largest allowed distance of corresponding corner voxels, as a share of the smallest voxel side.

    Returns
    -------
    The first difference ("expected ..., got ..."), or ``None`` if the geometries agree.
    """
    if expected.shape != found.shape:
        return f"expected shape {format_size(expected.shape)}, got {format_size(found.shape)}"
    if abs(expected.shear_deg - found.shear_deg) > SHEAR_TOLERANCE_DEG:
        axes = [f"sheared by {g.shear_deg:.3g}°" if g.is_sheared else "at right angles" for g in (expected, found)]
        return f"expected voxel axes {axes[0]}, got axes {axes[1]}"
    expected_mm, found_mm = np.array(expected.spacing_mm), np.array(found.spacing_mm)
    limit_mm = tolerance * float(expected_mm.min())
    if np.any(np.abs(expected_mm - found_mm) * np.maximum(1, np.array(expected.shape) - 1) > limit_mm):
        return f"expected voxels of {format_mm(expected_mm)} mm, got {format_mm(found_mm)} mm"
    if not (expected.oriented and found.oriented):
        return None
    distance_mm = corner_distance_mm(expected, found)
    if distance_mm <= limit_mm:
        return None
    if expected.axis_codes != found.axis_codes:
        return (
            f"expected orientation {''.join(expected.axis_codes)}, got {''.join(found.axis_codes)} "
            f"(corners up to {distance_mm:.3g} mm apart)"
        )
    rotations = [g.affine[:3, :3] / np.array(g.spacing_mm) for g in (expected, found)]
    if np.abs(rotations[0] - rotations[1]).max() > 1e-3:
        return f"expected the same affine, got a rotated one (corners up to {distance_mm:.3g} mm apart)"
    return (
        f"expected the same affine, got one with origin ({format_mm(found.affine[:3, 3], ', ')}) mm instead of "
        f"({format_mm(expected.affine[:3, 3], ', ')}) mm (corners up to {distance_mm:.3g} mm apart)"
    )


def _axis_directions(geometry: Geometry) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """For each voxel axis, the world axis (0 x, 1 y, 2 z) that it follows most closely, each used once, and the sign
    (+1 or -1) of its direction. Voxel sizes have no influence.

    Directions are rounded first: of axes at 45 degrees, the last digits of the affine would decide, and these differ
    between a file and what is written in its geometry.
    """
    from nibabel.orientations import io_orientation

    lengths = np.linalg.norm(geometry.axes_mm, axis=0)
    directions = np.eye(4)
    directions[:3, :3] = np.round(geometry.axes_mm / np.where(lengths > 0, lengths, 1), DIRECTION_DIGITS)
    (a, s), (b, t), (c, u) = io_orientation(directions)
    return (int(a), int(b), int(c)), (int(s), int(t), int(u))


def _flips(leading: int, signs: tuple[int, int, int]) -> tuple[slice, ...]:
    """An index that reverses the last three axes where the sign is negative."""
    return (slice(None),) * leading + tuple(slice(None, None, sign) for sign in signs)
