"""Comparison of geometries, and canonical order."""

from __future__ import annotations

import numpy as np

from core.imaging.geometry import Geometry, from_canonical, geometry_difference, to_canonical

RAS = Geometry((10, 12, 8), np.diag([1.0, 1.0, 2.0, 1.0]))


def shifted(*shift_mm: float) -> Geometry:
    affine = RAS.affine.copy()
    affine[:3, 3] += shift_mm
    return Geometry(RAS.shape, affine)


def test_equal_geometries_have_no_difference() -> None:
    assert geometry_difference(RAS, Geometry(RAS.shape, RAS.affine.copy())) is None
    assert geometry_difference(RAS, shifted(0.05, 0, 0)) is None
    flipped = np.diag([-1.0, 1, 2, 1])
    flipped[0, 3] = 9
    las = Geometry(RAS.shape, flipped)
    assert las.axis_codes == ("L", "A", "S")
    assert geometry_difference(RAS, las.canonical) is None


def test_difference_names_shape_voxel_size_origin_orientation_or_rotation() -> None:
    assert "shape 10x12x8, got 10x12x9" in str(geometry_difference(RAS, Geometry((10, 12, 9), RAS.affine)))
    assert "voxels of 1 x 1 x 2 mm, got 1 x 1 x 3 mm" in str(
        geometry_difference(RAS, Geometry(RAS.shape, np.diag([1, 1, 3.0, 1])))
    )
    assert "origin (2, 0, 0) mm instead of (0, 0, 0)" in str(geometry_difference(RAS, shifted(2, 0, 0)))
    assert "orientation RAS, got LAS" in str(geometry_difference(RAS, Geometry(RAS.shape, np.diag([-1.0, 1, 2, 1]))))
    angle = np.deg2rad(5)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert "rotated" in str(geometry_difference(RAS, Geometry(RAS.shape, rotation @ RAS.affine)))


def test_unknown_orientation_is_compared_by_shape_and_voxel_size() -> None:
    unknown = Geometry(RAS.shape, RAS.affine, oriented=False)
    assert geometry_difference(shifted(50, 0, 0), unknown) is None
    assert geometry_difference(Geometry((10, 12, 9), RAS.affine), unknown) is not None
    assert unknown.canonical == unknown and unknown.axis_codes == ("?", "?", "?")
    array = np.arange(960).reshape(RAS.shape)
    assert np.array_equal(to_canonical(array, unknown), array)
    assert np.array_equal(from_canonical(array, unknown), array)


def test_canonical_order_keeps_the_world_position_of_every_voxel() -> None:
    affine = np.array([[0, 0, -2.0, 30], [1.5, 0, 0, -7], [0, -1.0, 0, 4], [0, 0, 0, 1]])
    stored = Geometry((3, 4, 5), affine)
    canonical = stored.canonical
    assert stored.axis_codes == ("A", "I", "L") and canonical.axis_codes == ("R", "A", "S")
    assert canonical.shape == (5, 3, 4) and canonical.spacing_mm == (2, 1.5, 1)
    world = np.stack([(affine @ [i, j, k, 1])[:3] for i, j, k in np.ndindex(3, 4, 5)]).reshape(3, 4, 5, 3)
    positions = np.stack([to_canonical(world[..., axis], stored) for axis in range(3)], axis=-1)
    for voxel in np.ndindex(canonical.shape):
        assert np.allclose(positions[voxel], (canonical.affine @ [*voxel, 1])[:3])
    channels = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    assert np.array_equal(from_canonical(to_canonical(channels, stored), stored), channels)


def test_geometries_compare_by_value() -> None:
    assert Geometry(RAS.shape, RAS.affine.copy()) == RAS
    assert shifted(1, 0, 0) != RAS
    assert RAS != "RAS"
