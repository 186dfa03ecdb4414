"""Meshes of masks: volume and position within a voxel, closed and outward for any affine, small parts kept."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging import mesh as module
from core.imaging.mesh import mesh_of_mask, vertex_normals
from tests.support.meshes import MIRRORED, SHEARED, STRAIGHT, ball

FACES = 4000
SPACINGS = [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (0.8, 1.2, 2.0)]


def outward(mesh: module.Mesh) -> float:
    """Share of the faces of a convex mesh whose normals point away from its centre."""
    corners = mesh.corners
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    away = corners.mean(axis=1) - mesh.vertices.mean(axis=0)
    return float(((across * away).sum(axis=1) > 0).mean())


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_ball_has_its_volume_and_its_radius_within_a_voxel(spacing_mm: tuple[float, ...]) -> None:
    mask, affine = ball(16, spacing_mm)
    made = mesh_of_mask(mask, affine, FACES)
    assert made is not None and made.coarsening == 1 and made.left_out == 0
    voxels_mm3 = mask.sum() * np.prod(spacing_mm)
    for mesh, tolerance in ((made.full, 0.005), (made.mesh, 0.02)):
        assert mesh.volume_mm3 == pytest.approx(voxels_mm3, rel=tolerance)
        assert mesh.is_closed and outward(mesh) > 0.99
        radii = np.linalg.norm(mesh.vertices - 25, axis=1)
        assert np.abs(radii - 16).max() < max(spacing_mm)
    assert len(made.mesh.faces) <= FACES < len(made.full.faces)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_box_lies_where_its_voxels_do(spacing_mm: tuple[float, ...]) -> None:
    mask = np.zeros((24, 20, 16), bool)
    mask[4:20, 5:15, 6:12] = True
    made = mesh_of_mask(mask, np.diag([*spacing_mm, 1.0]), FACES)
    assert made is not None
    low, high = (np.array([3.5, 4.5, 5.5]) * spacing_mm, np.array([19.5, 14.5, 11.5]) * spacing_mm)
    assert np.abs(made.mesh.vertices.min(axis=0) - low).max() < 0.5 * max(spacing_mm)
    assert np.abs(made.mesh.vertices.max(axis=0) - high).max() < 0.5 * max(spacing_mm)
    assert made.mesh.volume_mm3 == pytest.approx(mask.sum() * np.prod(spacing_mm), rel=0.04)


@pytest.mark.parametrize("affine", [STRAIGHT, MIRRORED, SHEARED, SHEARED @ np.diag([1.0, -1, 1, 1])])
def test_surfaces_point_outward_whatever_the_affine(affine: np.ndarray) -> None:
    mask, _ = ball(9, (1, 1, 1), 24)
    made = mesh_of_mask(mask, affine, 1000)
    assert made is not None
    expected = mask.sum() * abs(np.linalg.det(affine[:3, :3]))
    assert made.mesh.volume_mm3 == pytest.approx(expected, rel=0.02), "positive: outward"
    assert made.mesh.is_closed and outward(made.mesh) > 0.99
    centre = affine[:3, :3] @ np.array([12, 12, 12]) + affine[:3, 3]
    middle = (made.mesh.vertices.min(axis=0) + made.mesh.vertices.max(axis=0)) / 2
    assert np.abs(middle - centre).max() < 0.5
    normals = vertex_normals(made.mesh)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert ((normals * (made.mesh.vertices - centre)).sum(axis=1) > 0).all()


def test_a_structure_that_fills_the_volume_is_closed_at_its_edge() -> None:
    made = mesh_of_mask(np.ones((6, 5, 4), bool), np.eye(4), FACES)
    assert made is not None and made.mesh.is_closed
    assert made.mesh.vertices.min() == pytest.approx(-0.5, abs=0.3)
    assert made.mesh.volume_mm3 == pytest.approx(120, rel=0.1)


def test_one_voxel_is_an_octahedron_and_nothing_is_none() -> None:
    mask = np.zeros((5, 5, 5), bool)
    assert mesh_of_mask(mask, np.eye(4), FACES) is None
    mask[0, 4, 2] = True
    made = mesh_of_mask(mask, np.eye(4), FACES)
    assert made is not None and made.mesh.is_closed and len(made.mesh.faces) == 8
    assert made.mesh.vertices.mean(axis=0) == pytest.approx([0, 4, 2], abs=0.01)
    assert np.abs(made.mesh.vertices - [0, 4, 2]).max() == pytest.approx(0.5, abs=0.01)


def test_small_parts_survive_decimation_and_a_cavity_is_no_volume() -> None:
    mask, affine = ball(16, (1, 1, 1))
    mask[25, 25, 25] = False
    mask[1, 1, 1] = mask[45, 2, 3] = True
    made = mesh_of_mask(mask, affine, 1500)
    assert made is not None and made.left_out == 0
    for voxel in ((1, 1, 1), (45, 2, 3), (25, 25, 25)):
        near = np.linalg.norm(made.mesh.vertices - voxel, axis=1) < 1
        assert near.sum() == 6, voxel
    assert made.mesh.volume_mm3 == pytest.approx(mask.sum(), rel=0.02)


def test_the_smallest_of_too_many_parts_are_left_out_and_counted() -> None:
    mask = np.zeros((30, 30, 30), bool)
    mask[::3, ::3, ::3] = True  # 1000 single voxels
    mask[0:2, 0, 0] = True  # one of two
    made = mesh_of_mask(mask, np.eye(4), 800)
    assert made is not None and made.mesh.is_closed
    assert len(made.mesh.faces) == 800 and made.left_out == 999 - (800 - 16) // 8, "16 faces, and 8 of the others"
    assert (np.linalg.norm(made.mesh.vertices - [0.5, 0, 0], axis=1) < 1.1).any(), "the largest stays"


def test_a_surface_that_decimation_would_ruin_keeps_more_faces_but_not_all() -> None:
    """Specks all over the volume, as of a network that has learned little: all faces are too many for a browser."""
    mask = np.random.default_rng(0).random((20, 20, 20)) < 0.4
    made = mesh_of_mask(mask, np.eye(4), 1000)
    assert made is not None and made.mesh.is_closed
    assert len(made.full.faces) > 20_000 and 2_000 < len(made.mesh.faces) <= 4_000
    assert made.mesh.volume_mm3 == pytest.approx(made.full.volume_mm3, rel=0.1)
    limited = mesh_of_mask(mask, np.eye(4), 1000, 1500)
    assert limited is not None and 1_000 < len(limited.mesh.faces) <= 1_500
    fewest = mesh_of_mask(mask, np.eye(4), 1000, 500)
    assert fewest is not None and len(fewest.mesh.faces) <= 1_000, "never fewer than asked for"


def test_a_huge_surface_is_made_of_blocks_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, affine = ball(16, (1, 1, 1))
    monkeypatch.setattr(module, "MAX_FACES", 3000)
    made = mesh_of_mask(mask, affine, FACES)
    assert made is not None and made.coarsening == 2 and len(made.full.faces) < 6000
    assert made.full.volume_mm3 == pytest.approx(mask.sum(), rel=0.02)
    assert np.linalg.norm(made.full.vertices.mean(axis=0) - 25) < 0.2
    monkeypatch.setattr(module, "MAX_VOXELS", 1000)
    made = mesh_of_mask(mask, affine, FACES)
    assert made is not None and made.coarsening == 4
    one = np.zeros((90, 90, 90), bool)
    one[0, 0, 0] = one[89, 89, 89] = True
    made = mesh_of_mask(one, affine, FACES)
    assert made is not None and len(made.mesh.faces) > 0, (
        "blocks of less than half are not lost where there are no others"
    )


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="three axes"):
        mesh_of_mask(np.ones((3, 3), bool), np.eye(4), FACES)
    with pytest.raises(ValueError, match="inverted"):
        mesh_of_mask(np.ones((3, 3, 3), bool), np.diag([1.0, 0, 1, 1]), FACES)
