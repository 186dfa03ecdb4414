"""Comparison of geometries, and canonical order."""

from __future__ import annotations

import numpy as np
import pytest

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


def test_geometries_differ_in_shape_or_known_orientation_even_with_the_same_affine() -> None:
    assert Geometry((10, 12, 9), RAS.affine) != RAS
    assert Geometry(RAS.shape, RAS.affine, oriented=False) != RAS
    assert Geometry(RAS.shape, RAS.affine.copy()) == RAS


def test_tolerance_is_a_tenth_of_the_smallest_voxel_side_and_included() -> None:
    large = Geometry((4, 4, 4), np.diag([2.0, 4.0, 8.0, 1.0]))

    def moved(shift_mm: float) -> Geometry:
        affine = large.affine.copy()
        affine[1, 3] += shift_mm
        return Geometry(large.shape, affine)

    assert geometry_difference(large, moved(0.125), tolerance=0.0625) is None  # exactly at the limit, 0.0625 * 2 mm
    assert geometry_difference(large, moved(0.126), tolerance=0.0625) is not None
    assert geometry_difference(large, moved(0.19)) is None
    assert geometry_difference(large, moved(0.21)) is not None


def test_a_small_difference_of_voxel_size_counts_over_the_whole_extent() -> None:
    def scaled(axis: int, factor: float, count: int) -> str | None:
        shape = [3, 3, 3]
        shape[axis] = count
        affine = np.eye(4)
        affine[axis, axis] = factor
        return geometry_difference(
            Geometry((shape[0], shape[1], shape[2]), np.eye(4)), Geometry((shape[0], shape[1], shape[2]), affine)
        )

    for axis in range(3):
        assert scaled(axis, 1.03, 3) is None  # 0.06 mm at the last voxel
        assert "got" in str(scaled(axis, 1.03, 5))  # 0.12 mm
        assert scaled(axis, 1.0078125, 13) is None  # 0.09375 mm
        assert scaled(axis, 1.0078125, 14) is not None  # 0.1015625 mm
    assert geometry_difference(Geometry((1, 3, 3), np.eye(4)), Geometry((1, 3, 3), np.diag([1.08, 1, 1, 1]))) is None
    assert "1.12" in str(
        geometry_difference(Geometry((1, 3, 3), np.eye(4)), Geometry((1, 3, 3), np.diag([1.12, 1, 1, 1])))
    )


def test_a_rotation_counts_at_the_farthest_corner_of_every_axis() -> None:
    for axis in range(3):  # a voxel row along each axis that starts at the origin and ends 0.2 mm away
        shape = [1, 1, 1]
        shape[axis] = 41
        other = (axis + 1) % 3
        angle = 0.2 / 40
        rotation = np.eye(4)
        rotation[[axis, other], [axis, other]] = np.cos(angle)
        rotation[other, axis], rotation[axis, other] = np.sin(angle), -np.sin(angle)
        size = (shape[0], shape[1], shape[2])
        assert "rotated" in str(geometry_difference(Geometry(size, np.eye(4)), Geometry(size, rotation)))
        shape[axis] = 11  # 0.05 mm away: within the tolerance
        size = (shape[0], shape[1], shape[2])
        assert geometry_difference(Geometry(size, np.eye(4)), Geometry(size, rotation)) is None


def test_rotation_and_shift_are_distinguished_for_anisotropic_voxels() -> None:
    thick = Geometry((10, 10, 4), np.diag([0.5, 0.5, 5.0, 1.0]))
    affine = thick.affine.copy()
    affine[:3, 3] = (1, 0, 0)
    assert "origin (1, 0, 0)" in str(geometry_difference(thick, Geometry(thick.shape, affine)))
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(0.02), -np.sin(0.02)], [np.sin(0.02), np.cos(0.02)]]
    assert "rotated" in str(geometry_difference(thick, Geometry(thick.shape, tilt @ thick.affine)))


GANTRY = np.diag([1.0, 1, 5, 1])
GANTRY[1, 2] = 5 * np.tan(np.deg2rad(30))


def rotated(angle_deg: float, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
    angle = np.deg2rad(angle_deg)
    affine = np.eye(4)
    affine[np.ix_(axes, axes)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_axes_at_45_degrees_have_one_order_whatever_the_last_digits_of_their_affine(axes: tuple[int, int]) -> None:
    """What is written in the geometry of an image, in 32 bits, is read in the order of the image."""
    random = np.random.default_rng(0)
    turned = np.eye(3)
    turned[np.ix_(axes, axes)] = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    for _ in range(20):
        affine = np.eye(4)
        affine[:3, :3] = turned @ np.diag(random.choice([0.3, 0.7, 1.0, 1.1], 3))
        noise = 1 + 1e-9 * random.normal(size=(4, 4))
        written = affine.astype(np.float32).astype(np.float64)
        assert len({Geometry((6, 6, 6), a).file_axes for a in (affine, written, affine * noise)}) == 1


def test_volume_of_a_voxel_is_the_determinant() -> None:
    sheared = Geometry((10, 10, 10), GANTRY)
    assert sheared.voxel_volume_mm3 == pytest.approx(5)  # not 1 * 1 * 5.77
    assert sheared.voxel_ml == pytest.approx(0.005)
    assert sheared.spacing_mm == pytest.approx((1, 1, 5 / np.cos(np.deg2rad(30))))
    assert Geometry((10, 10, 10), rotated(20) @ GANTRY).voxel_volume_mm3 == pytest.approx(5)
    assert Geometry((2, 2, 2), np.diag([-1.0, 2, 3, 1])).voxel_volume_mm3 == pytest.approx(6)
    assert Geometry((2, 2, 2), np.diag([1.0, 2, 3, 1]), oriented=False).voxel_volume_mm3 == pytest.approx(6)


def test_tilt_tells_sheared_from_oblique_axes_with_the_angle() -> None:
    def tilt(affine: np.ndarray, oriented: bool = True) -> str:
        return Geometry((10, 10, 10), affine, oriented).tilt

    assert tilt(GANTRY) == tilt(GANTRY @ np.diag([-1, 1, -1, 1])) == "sheared 30°"
    assert tilt(rotated(40) @ GANTRY) == "sheared 30°"
    assert tilt(rotated(12)) == tilt(rotated(12) @ np.diag([1, -1, 7, 1])) == "oblique 12°"
    assert tilt(rotated(12)[[1, 0, 2, 3]]) == "oblique 12°"
    assert tilt(np.eye(4)) == tilt(rotated(0.3)) == tilt(np.eye(4)[[1, 2, 0, 3]]) == ""
    assert tilt(np.eye(4), oriented=False) == ""
    single = Geometry((10, 10, 10), (rotated(33) @ np.diag([0.7, 1.1, 4, 1])).astype(np.float32).astype(np.float64))
    assert not single.is_sheared and single.shear_deg < 0.01


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_axes_of_the_file_lead_from_a_canonical_voxel_to_its_stored_index(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, list(order)]
    stored = Geometry((3, 4, 5), affine)
    array = np.arange(60).reshape(stored.shape)
    canonical = to_canonical(array, stored)
    for voxel in np.ndindex(canonical.shape):
        index = [canonical.shape[a] - 1 - voxel[a] if flipped else voxel[a] for a, flipped in stored.file_axes]
        assert array[tuple(index)] == canonical[voxel]
    assert Geometry((3, 4, 5), affine, oriented=False).file_axes == ((0, False), (1, False), (2, False))
