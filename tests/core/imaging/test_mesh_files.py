"""STL and PLY files, read back byte by byte by a reader of their own."""

from __future__ import annotations

import numpy as np
import pytest

from core.imaging.mesh import mesh_of_mask
from core.imaging.mesh_files import MeshCaption, encode_ply, encode_stl
from tests.support.meshes import SHEARED, ball, read_ply, read_stl


def volume(corners: np.ndarray) -> float:
    """Volume by the divergence theorem."""
    a, b, c = (corners[:, n] for n in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def test_stl_holds_the_mesh_in_mm_with_outward_normals() -> None:
    mask, _ = ball(9, (1, 1, 1), 24)
    made = mesh_of_mask(mask, SHEARED, 1000)
    assert made is not None
    header, normals, corners = read_stl(encode_stl(made.mesh, MeshCaption("sub-1 Läsion reference", oriented=True)))
    assert not header.startswith("solid") and "SPACE=RAS" in header and "L?sion" in header
    assert np.allclose(corners, made.mesh.corners, atol=1e-4)
    assert volume(corners) == pytest.approx(made.mesh.volume_mm3, rel=1e-3)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.allclose(normals, across / np.linalg.norm(across, axis=1, keepdims=True), atol=1e-3)


def test_ply_holds_colours_and_distances() -> None:
    made = mesh_of_mask(*ball(6, (1, 1, 2), 20), 1000)
    assert made is not None
    distances = np.linspace(-2, 2, len(made.mesh.vertices)).astype(np.float32)
    distances[3] = np.nan
    comments, vertices, faces = read_ply(encode_ply(made.mesh, MeshCaption("case\nGM", False, "#4a90d9"), distances))
    assert comments == ["case GM", "axes of the voxels, orientation unknown", "unit mm"]
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1)
    assert np.allclose(points, made.mesh.vertices, atol=1e-4) and np.array_equal(faces, made.mesh.faces)
    assert (vertices["red"][0], vertices["green"][0], vertices["blue"][0]) == (0x4A, 0x90, 0xD9)
    assert np.array_equal(vertices["distance_mm"], distances, equal_nan=True)
    _, plain, _ = read_ply(encode_ply(made.mesh, MeshCaption("case", True)))
    assert "distance_mm" not in (plain.dtype.names or ())
