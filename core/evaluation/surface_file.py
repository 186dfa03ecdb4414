"""Surfaces of a case as one compact file, which is also what a browser reads.

================  ======================================================================================================
8 bytes           ``SEGSURF`` and the version as a digit
4 bytes           length of the header, uint32
header            JSON, padded with spaces to a multiple of 4 bytes
arrays            little-endian, each at a multiple of 4 bytes; offsets count from the end of the header
================  ======================================================================================================

Positions are uint16 shares of the box around a surface: exact to 1/65535 of its sides, 4 µm of 25 cm. Distances are
int16 in steps of :data:`STEP_MM`. The picture (PNG) comes last, so that a reader can do without it.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation.surface_meshes import CaseSurfaces, Structure, Surface
from core.imaging.mesh import Mesh
from core.strict_json import dumps

VERSION = 1
MAGIC = b"SEGSURF%d" % VERSION
POSITIONS = 65535  # steps of a position along each side of the box
STEP_MM, NO_DISTANCE = 0.01, -32768
LARGEST_STEPS = 32767  # of a distance; those beyond are cut


class SurfaceFileError(ValueError):
    """Content that is no file of surfaces of this version."""


@dataclass(frozen=True)
class SurfaceFile:
    """The parts of a file.

    Attributes
    ----------
    key : str. What the surfaces were made of.
    surfaces : CaseSurfaces.
    scene : bytes. The file without the picture.
    picture : bytes. PNG.
    """

    key: str
    surfaces: CaseSurfaces
    scene: bytes
    picture: bytes


def encode(found: CaseSurfaces, key: str, picture: bytes) -> bytes:
    """The content of a file.

    Parameters
    ----------
    found : CaseSurfaces.
    key : str. Identifies the segmentations that they were made from.
    picture : bytes. PNG of them.
    """
    arrays: list[bytes] = []
    described = [_encode_surface(surface, arrays) for surface in found.surfaces]
    scene = b"".join(arrays)
    header = {
        "key": key,
        "oriented": found.oriented,
        "has_truth": found.has_truth,
        "structures": [
            {"name": s.name, "colour": s.colour, "classes": list(s.classes), "is_region": s.is_region}
            for s in found.structures
        ],
        "surfaces": described,
        "step_mm": STEP_MM,
        "scene_bytes": len(scene),
        "picture_bytes": len(picture),
    }
    text = dumps(header, indent=None).encode()
    text += b" " * (-(len(MAGIC) + 4 + len(text)) % 4)
    return MAGIC + struct.pack("<I", len(text)) + text + scene + picture


def decode(content: bytes) -> SurfaceFile:
    """The parts of a file.

    Raises
    ------
    SurfaceFileError
        If it is damaged, or of another version.
    """
    header, start, end = read_header(content)
    try:
        structures = tuple(
            Structure(s["name"], s["colour"], tuple(s["classes"]), bool(s["is_region"])) for s in header["structures"]
        )
        surfaces = tuple(_decode_surface(one, content[start:end]) for one in header["surfaces"])
        found = CaseSurfaces(structures, surfaces, bool(header["oriented"]), bool(header["has_truth"]))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise SurfaceFileError(f"expected surfaces of version {VERSION}, found damaged ones: {error}") from error
    return SurfaceFile(str(header["key"]), found, content[:end], content[end:])


def read_header(content: bytes) -> tuple[dict[str, Any], int, int]:
    """The header of a file, where its arrays begin, and where its picture does; errors as for :func:`decode`."""
    first = len(MAGIC) + 4
    if content[: len(MAGIC)] != MAGIC or len(content) < first:
        raise SurfaceFileError(f"expected surfaces of version {VERSION}, found other content")
    (length,) = struct.unpack("<I", content[len(MAGIC) : first])
    try:
        header = json.loads(content[first : first + length])
    except ValueError as error:
        raise SurfaceFileError("expected a header, found damaged text") from error
    if not isinstance(header, dict):
        raise SurfaceFileError("expected a header, found other text")
    start = first + length
    try:
        end = start + int(header["scene_bytes"])
        complete = len(content) == end + int(header["picture_bytes"])
    except (KeyError, TypeError, ValueError) as error:
        raise SurfaceFileError(f"expected a header of version {VERSION}, found another one: {error}") from error
    if not complete:
        raise SurfaceFileError("expected the surfaces and their picture, found another length")
    return header, start, end


def _encode_surface(surface: Surface, arrays: list[bytes]) -> dict[str, Any]:
    """The description of a surface, whose arrays are appended."""

    def add(array: np.ndarray) -> int:
        offset = sum(map(len, arrays))
        data = array.tobytes()
        arrays.append(data + bytes(-len(data) % 4))
        return offset

    mesh, distance = surface.mesh, surface.distance_mm
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    size = np.where(high > low, high - low, 1.0)
    positions = np.rint((mesh.vertices - low) / size * POSITIONS).astype("<u2")
    narrow = len(mesh.vertices) <= 65536
    known = np.zeros(0) if distance is None else np.abs(distance[np.isfinite(distance)].astype(np.float64))
    return {
        "structure": surface.structure,
        "side": surface.side,
        "low": low.tolist(),
        "size": size.tolist(),
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "positions": add(positions),
        "index_bytes": 2 if narrow else 4,
        "indices": add(mesh.faces.astype("<u2" if narrow else "<u4")),
        "distances": None if distance is None else add(_steps(distance)),
        "mean_distance_mm": float(known.mean()) if len(known) else None,
        "largest_distance_mm": float(known.max()) if len(known) else None,
        "volume_ml": surface.volume_ml,
        "mesh_ml": surface.mesh_ml,
        "volume_differs": surface.volume_differs,
        "coarsening": surface.coarsening,
        "left_out": surface.left_out,
    }


def _steps(distance_mm: np.ndarray) -> np.ndarray:
    known = np.isfinite(distance_mm)
    steps = np.rint(np.where(known, distance_mm, 0) / STEP_MM).clip(-LARGEST_STEPS, LARGEST_STEPS)
    return np.where(known, steps, NO_DISTANCE).astype("<i2")


def _decode_surface(one: dict[str, Any], arrays: bytes) -> Surface:
    vertices, faces = int(one["vertices"]), int(one["faces"])

    def read(kind: str, count: int, offset: int) -> np.ndarray:
        return np.frombuffer(arrays, kind, count, int(offset))

    shares = read("<u2", 3 * vertices, one["positions"]).reshape(-1, 3) / POSITIONS
    points = np.array(one["low"]) + shares * np.array(one["size"])
    kind = "<u2" if one["index_bytes"] == 2 else "<u4"
    triangles = read(kind, 3 * faces, one["indices"]).astype(np.int32).reshape(-1, 3)
    if faces and triangles.max() >= vertices:
        raise SurfaceFileError("expected faces of the vertices, found others")
    distance = None
    if one["distances"] is not None:
        steps = read("<i2", vertices, one["distances"])
        distance = np.where(steps == NO_DISTANCE, np.nan, steps * STEP_MM).astype(np.float32)
    mesh = Mesh(points, triangles)
    volume_ml, coarsening, left_out = float(one["volume_ml"]), int(one["coarsening"]), int(one["left_out"])
    return Surface(int(one["structure"]), str(one["side"]), mesh, distance, volume_ml, coarsening, left_out)
