"""Triangle meshes as files: binary STL, and binary PLY with colours and a number per vertex.

Coordinates are written as they are, in mm. STL and PLY have no field for the meaning of the axes; ``SPACE=RAS`` in the
header of an STL file and in a comment of a PLY file is what 3D Slicer reads, which takes others for LPS.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from core.colours import rgb
from core.imaging.mesh import Mesh

STL_HEADER = 80  # bytes


@dataclass(frozen=True)
class MeshCaption:
    """What a file says of its mesh.

    Attributes
    ----------
    title : str. ASCII; other characters become question marks.
    oriented : bool. Whether coordinates are RAS.
    colour : str. ``#rrggbb``; for PLY.
    """

    title: str
    oriented: bool
    colour: str = "#ffffff"

    @property
    def space(self) -> str:
        """The meaning of the axes, as the files have it."""
        return "SPACE=RAS" if self.oriented else "axes of the voxels, orientation unknown"


def encode_stl(mesh: Mesh, caption: MeshCaption) -> bytes:
    """A mesh as the content of a binary STL file; the normals are those of the faces, outward.

    The header does not begin with "solid", with which some readers take it for text.
    """
    corners = mesh.corners.astype("<f4")
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(np.float64)
    lengths = np.linalg.norm(across, axis=1, keepdims=True)
    records = np.zeros(len(corners), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]))
    records["normal"] = np.divide(across, lengths, out=np.zeros_like(across), where=lengths > 0)
    records["corners"] = corners
    title = f"STL in mm {caption.space} {_ascii(caption.title)}".encode("ascii")
    return title[:STL_HEADER].ljust(STL_HEADER) + struct.pack("<I", len(corners)) + records.tobytes()


def encode_ply(mesh: Mesh, caption: MeshCaption, distance_mm: np.ndarray | None = None) -> bytes:
    """A mesh as the content of a binary PLY file.

    Parameters
    ----------
    mesh : Mesh.
    caption : MeshCaption. Its colour is that of all vertices.
    distance_mm : ndarray, shape (vertices,), optional. Becomes the vertex property ``distance_mm``, NaN where unknown.
    """
    fields: list[tuple[str, str]] = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    fields += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    if distance_mm is not None:
        fields.append(("distance_mm", "<f4"))
    vertices = np.zeros(len(mesh.vertices), np.dtype(fields))
    for axis, name in enumerate("xyz"):
        vertices[name] = mesh.vertices[:, axis]
    for name, value in zip(("red", "green", "blue"), rgb(caption.colour), strict=True):
        vertices[name] = value
    if distance_mm is not None:
        vertices["distance_mm"] = distance_mm
    faces = np.zeros(len(mesh.faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    faces["count"], faces["corners"] = 3, mesh.faces
    kinds = {"<f4": "float", "u1": "uchar"}
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {_ascii(caption.title)}",
        f"comment {caption.space}",
        "comment unit mm",
        f"element vertex {len(vertices)}",
        *(f"property {kinds[kind]} {name}" for name, kind in fields),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return "\n".join([*lines, ""]).encode("ascii") + vertices.tobytes() + faces.tobytes()


def _ascii(text: str) -> str:
    return " ".join(text.split()).encode("ascii", "replace").decode("ascii")
