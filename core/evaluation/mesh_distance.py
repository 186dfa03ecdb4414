"""Signed distances from points to a triangle mesh; scipy is imported on first use."""

from __future__ import annotations

import numpy as np

from core.imaging.mesh import Mesh

CANDIDATES = 16  # faces with the nearest centres, of which the nearest one is taken
BATCH = 4_000  # points at a time: some 60 MB
TIED = 1e-9  # relative difference of distances to faces that share the nearest edge or corner


def signed_distances(points: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Distances from points to the surface of a mesh, in the unit of both.

    Exact distances to the nearest of the ``CANDIDATES`` faces whose centres are nearest: faces of a mesh of voxels are
    small, so no other one is nearer.

    Parameters
    ----------
    points : ndarray, float64, shape (n, 3).
    mesh : Mesh. Closed, of at least one face.

    Returns
    -------
    ndarray, float64, shape (n,). Positive outside of the mesh, negative inside.
    """
    from scipy.spatial import cKDTree

    corners = mesh.corners
    tree = cKDTree(corners.mean(axis=1))
    count = min(CANDIDATES, len(corners))
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    found = []
    for first in range(0, len(points), BATCH):
        batch = points[first : first + BATCH]
        faces = tree.query(batch, count)[1].reshape(len(batch), count)
        found.append(_to_nearest(batch, corners[faces], normals[faces]))
    return np.concatenate(found) if found else np.zeros(0)


def _to_nearest(points: np.ndarray, corners: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Signed distances to the nearest of several faces, shapes (n, 3), (n, face, corner, 3) and (n, face, 3)."""
    away = points[:, None] - _closest(points[:, None], corners)
    distances = np.linalg.norm(away, axis=2)
    nearest = distances.min(axis=1, keepdims=True)
    side = (away * normals).sum(axis=2)
    # At an edge or a corner several faces are the nearest; the sign is that of the face with the largest normal part.
    tied = distances <= nearest * (1 + TIED) + 1e-12
    facing = np.where(tied, np.abs(side), -1.0).argmax(axis=1)
    inside = side[np.arange(len(points)), facing] < 0
    return np.asarray(np.where(inside, -nearest[:, 0], nearest[:, 0]))


def _closest(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The nearest points of triangles, shapes (..., 3) and (..., corner, 3).

    Ericson, Real-Time Collision Detection (2005), 5.1.5: the nearest corner, edge or inner point by Voronoi regions.
    """
    a, b, c = (corners[..., n, :] for n in range(3))
    ab, ac = b - a, c - a
    ap, bp, cp = points - a, points - b, points - c
    d1, d2 = (ab * ap).sum(-1), (ac * ap).sum(-1)
    d3, d4 = (ab * bp).sum(-1), (ac * bp).sum(-1)
    d5, d6 = (ab * cp).sum(-1), (ac * cp).sum(-1)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)[..., None]

    inner = va + vb + vc
    result = a + ab * ratio(vb, inner) + ac * ratio(vc, inner)
    regions = (  # the first that holds counts
        ((d1 <= 0) & (d2 <= 0), a + 0 * ab),
        ((d3 >= 0) & (d4 <= d3), b + 0 * ab),
        ((d6 >= 0) & (d5 <= d6), c + 0 * ab),
        ((vc <= 0) & (d1 >= 0) & (d3 <= 0), a + ab * ratio(d1, d1 - d3)),
        ((vb <= 0) & (d2 >= 0) & (d6 <= 0), a + ac * ratio(d2, d2 - d6)),
        ((va <= 0) & (d4 - d3 >= 0) & (d5 - d6 >= 0), b + (c - b) * ratio(d4 - d3, (d4 - d3) + (d5 - d6))),
    )
    for holds, nearest in reversed(regions):
        result = np.where(holds[..., None], nearest, result)
    return np.asarray(result)
