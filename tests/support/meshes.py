"""Balls as masks, affines, and readers of STL and PLY that share no code with the writers."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

# Columns are the steps along i, j, k in mm.
STRAIGHT = np.array([[1.0, 0, 0, -20], [0, 1.2, 0, 5], [0, 0, 2, 3], [0, 0, 0, 1]])
MIRRORED = STRAIGHT @ np.diag([-1.0, 1, 1, 1])
SHEARED = np.array([[1.0, 0.4, 0, -20], [0, 1.1, 0.5, 5], [0, 0, 2, 3], [0, 0, 0, 1]])


def ball(radius_mm: float, spacing_mm: Sequence[float], side_mm: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    """A ball in the middle of a cube, and the affine of its grid."""
    shape = [round(side_mm / step) for step in spacing_mm]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) * spacing_mm
    return np.linalg.norm(grid - side_mm / 2, axis=-1) < radius_mm, np.diag([*spacing_mm, 1.0])


def read_stl(content: bytes) -> tuple[str, np.ndarray, np.ndarray]:
    """Header, normals (face, 3) and corners (face, 3, 3) of a binary STL file."""
    (count,) = struct.unpack_from("<I", content, 80)
    assert len(content) == 84 + 50 * count
    values = np.array([struct.unpack_from("<12f", content, 84 + 50 * n) for n in range(count)])
    return content[:80].decode("ascii"), values[:, :3], values[:, 3:].reshape(-1, 3, 3)


def read_ply(content: bytes) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Comments, vertices as a structured array, and faces of a binary PLY file."""
    head, _, body = content.partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    kinds = {"float": "<f4", "uchar": "u1"}
    counts = {line.split()[1]: int(line.split()[2]) for line in lines if line.startswith("element")}
    fields = [
        (line.split()[2], kinds[line.split()[1]])
        for line in lines
        if line.startswith("property") and "list" not in line
    ]
    vertices = np.frombuffer(body, np.dtype(fields), counts["vertex"])
    faces = np.frombuffer(body, np.dtype([("n", "u1"), ("at", "<i4", 3)]), offset=vertices.nbytes)
    assert len(faces) == counts["face"] and (faces["n"] == 3).all()
    return [line.removeprefix("comment ") for line in lines if line.startswith("comment")], vertices, faces["at"]
