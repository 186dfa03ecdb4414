"""Where voxels lie in space: shape, affine, orientation; and whether two images lie in the same place.

World coordinates are RAS millimetres: x grows to the patient's Right, y to Anterior, z to Superior. *Canonical* order
means axes permuted and flipped (never interpolated) so that i, j, k run as closely as possible along x, y, z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.types import Affine, Size3, SpacingMm

AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class Geometry:
    """Shape and place of one image.

    Attributes
    ----------
    shape : voxels along i, j, k.
    affine : float64, shape (4, 4): voxel index to RAS mm. Where the orientation is unknown: the voxel sizes on the
        diagonal, which says nothing about left and right.
    oriented : whether the file states its orientation. Without one nothing is ever flipped.
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
        """Voxel size along i, j, k in mm."""
        a, b, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(a), float(b), float(c)

    @property
    def axis_codes(self) -> tuple[str, str, str]:
        """The direction in which i, j, k grow, as letters of R/L, A/P, S/I; ``?`` where it is unknown."""
        if not self.oriented:
            return "?", "?", "?"
        world, signs = axis_directions(self)
        a, b, c = (AXIS_LETTERS[axis][sign > 0] for axis, sign in zip(world, signs, strict=True))
        return a, b, c

    @property
    def canonical(self) -> Geometry:
        """The geometry after :func:`to_canonical`; itself where the orientation is unknown."""
        if not self.oriented:
            return self
        world, signs = axis_directions(self)
        order = np.argsort(world)
        move = np.zeros((4, 4))
        move[3, 3] = 1
        for new, old in enumerate(order):
            move[old, new] = signs[old]
            move[old, 3] = 0 if signs[old] > 0 else self.shape[old] - 1
        i, j, k = (self.shape[old] for old in order)
        return Geometry((i, j, k), self.affine @ move, True)


def axis_directions(geometry: Geometry) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """For each voxel axis the world axis (0 x, 1 y, 2 z) that it follows most closely, each taken once, and the sign
    (+1 or -1) in which it grows; oblique and anisotropic affines are judged by direction alone."""
    from nibabel.orientations import io_orientation

    (a, s), (b, t), (c, u) = io_orientation(geometry.affine)
    return (int(a), int(b), int(c)), (int(s), int(t), int(u))


def to_canonical(array: np.ndarray, stored: Geometry) -> np.ndarray:
    """Bring an array (..., i, j, k) from a file's axis order to canonical order; a view, never interpolated."""
    if not stored.oriented:
        return array
    world, signs = axis_directions(stored)
    lead = array.ndim - 3
    flips = tuple([slice(None)] * lead + [slice(None, None, sign) for sign in signs])
    return array[flips].transpose(*range(lead), *(lead + int(old) for old in np.argsort(world)))


def from_canonical(array: np.ndarray, stored: Geometry) -> np.ndarray:
    """The inverse of :func:`to_canonical`: canonical order (..., i, j, k) to the file's own order."""
    if not stored.oriented:
        return array
    world, signs = axis_directions(stored)
    lead = array.ndim - 3
    flips = tuple([slice(None)] * lead + [slice(None, None, sign) for sign in signs])
    return array.transpose(*range(lead), *(lead + axis for axis in world))[flips]


def difference(expected: Geometry, found: Geometry, tolerance: float = 0.1) -> str | None:
    """Say how two geometries differ, or ``None`` where they agree.

    They agree where the shapes are equal and no corner voxel is further than ``tolerance`` (in units of the smallest
    voxel side) from its counterpart. Pass canonical geometries to compare anatomy whatever order files store it in.
    Where either orientation is unknown, only shape and voxel size are compared.
    """
    if expected.shape != found.shape:
        return f"expected shape {_times(expected.shape)}, got {_times(found.shape)}"
    sizes, others = np.array(expected.spacing_mm), np.array(found.spacing_mm)
    limit_mm = tolerance * float(sizes.min())
    if np.any(np.abs(sizes - others) * np.maximum(1, np.array(expected.shape) - 1) > limit_mm):
        return f"expected voxels of {_mm(sizes)} mm, got {_mm(others)} mm"
    if not (expected.oriented and found.oriented):
        return None
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(expected.shape) - 1
    distance_mm = float(np.linalg.norm((corners @ (expected.affine - found.affine).T)[:, :3], axis=1).max())
    if distance_mm <= limit_mm:
        return None
    if expected.axis_codes != found.axis_codes:
        return (
            f"expected orientation {''.join(expected.axis_codes)}, got {''.join(found.axis_codes)} "
            f"(corners up to {distance_mm:.3g} mm apart)"
        )
    directions = [g.affine[:3, :3] / np.array(g.spacing_mm) for g in (expected, found)]
    if np.abs(directions[0] - directions[1]).max() > 1e-3:
        return f"expected the same affine, got a rotated one (corners up to {distance_mm:.3g} mm apart)"
    return (
        f"expected the same affine, got one with origin ({_mm(found.affine[:3, 3], ', ')}) mm instead of "
        f"({_mm(expected.affine[:3, 3], ', ')}) mm (corners up to {distance_mm:.3g} mm apart)"
    )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


def _mm(values: np.ndarray, separator: str = " x ") -> str:
    return separator.join(f"{v:.4g}" for v in values)
