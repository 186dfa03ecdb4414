"""Signed distances to a mesh: concentric balls, a cube with known distances, and all faces tried one by one."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation import mesh_distance
from core.evaluation.mesh_distance import signed_distances
from core.imaging.mesh import Mesh, mesh_of_mask
from tests.support.meshes import ball

CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
CUBE = Mesh(CORNERS, np.array([[a, b, c] for p, q, r, s in SIDES for a, b, c in ((p, q, r), (p, r, s))], np.int32))


def test_distances_to_a_cube_are_exact_at_faces_edges_and_corners() -> None:
    assert CUBE.is_closed and CUBE.volume_mm3 == pytest.approx(1)
    points = np.array([[0.5, 0.5, 2], [0.5, 0.5, 0.9], [2, 2, 0.5], [2, 2, 2], [1, 0.3, 0.3], [-3, 0.5, 0.5]])
    expected = [1, -0.1, np.sqrt(2), np.sqrt(3), 0, 3]
    assert signed_distances(points, CUBE) == pytest.approx(expected)
    assert signed_distances(np.zeros((0, 3)), CUBE).shape == (0,)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.9, 4.0)])
def test_concentric_balls_are_as_far_apart_as_their_radii(spacing_mm: tuple[float, ...]) -> None:
    """At each vertex within a voxel, whose extent across the surface is that of the direction from the centre: a mask
    has its surface within half a voxel of the ball, and a distance is between two of them."""
    inner, outer = (mesh_of_mask(*ball(radius, spacing_mm), 3000) for radius in (12, 18))
    assert inner is not None and outer is not None
    for vertices, other, expected in ((inner.mesh.vertices, outer.full, -6), (outer.mesh.vertices, inner.full, 6)):
        found = signed_distances(vertices, other)
        across = np.abs((vertices - 25) / np.linalg.norm(vertices - 25, axis=1, keepdims=True)) @ spacing_mm
        assert (np.abs(found - expected) < across).all()
        assert found.mean() == pytest.approx(expected, abs=0.5 * across.mean())
    assert np.abs(signed_distances(inner.mesh.vertices, inner.full)).max() < 0.25, "to itself: decimation only"


def test_faces_with_the_nearest_centres_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    made = mesh_of_mask(*ball(9, (0.7, 0.9, 4.0), 30), 3000)
    assert made is not None
    points = np.random.default_rng(0).uniform(0, 30, (150, 3))
    found = signed_distances(points, made.full)
    monkeypatch.setattr(mesh_distance, "CANDIDATES", len(made.full.faces))
    monkeypatch.setattr(mesh_distance, "BATCH", 50)
    assert found == pytest.approx(signed_distances(points, made.full), abs=0.02)
    inside = np.linalg.norm(points - 15, axis=1)
    assert (found[inside < 6] < 0).all() and (found[inside > 12] > 0).all()
