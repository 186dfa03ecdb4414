"""A picture of the surfaces of a case from three sides, for where nothing can turn them.

Rows: the classes of the reference, those of the prediction, and each of the largest classes of the prediction coloured
by its signed distance to the reference. Parallel projection; surfaces hide what lies behind them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.colours import rgb
from core.evaluation.surface_meshes import DISTANCE_COLOURS, NO_DISTANCE_COLOUR, RANGE_MM, CaseSurfaces, Surface
from core.imaging.mesh import Mesh, vertex_normals

PANEL, GAP, HEAD = 300, 6, 24  # pixels: sides of a panel, between panels, above a row
MAX_CLASSES = 4  # with a row of distances
SAMPLES = 8.0  # points of a face per pixel that it covers
MAX_SAMPLES = 1_500_000  # of a surface in one panel
AMBIENT = 0.35  # least brightness of a surface
PAPER, INK, FAINT = "#000000", "#e6e8ec", "#9aa0ab"
# Axes to the right and up on screen and towards the viewer; the letters at the left, right, top and bottom.
VIEWS = {
    "front": (((-1, 0, 0), (0, 0, 1), (0, 1, 0)), "RLSI"),
    "left": (((0, -1, 0), (0, 0, 1), (-1, 0, 0)), "APSI"),
    "above": (((1, 0, 0), (0, 1, 0), (0, 0, 1)), "LRAP"),
}


@dataclass(frozen=True)
class _Row:
    """Surfaces that a row shows: their numbers, with a colour for each vertex."""

    title: str
    surfaces: tuple[tuple[int, np.ndarray], ...]


@dataclass(frozen=True)
class _Seen:
    """What is seen of a surface in each pixel of a panel: shapes (PANEL * PANEL,), and (PANEL * PANEL, 3) for corners.

    Attributes
    ----------
    depth : ndarray, float64. Towards the viewer; -inf where nothing is seen.
    corners : ndarray, int32. Vertices of the face.
    weights : ndarray, float64. Their weights, which add up to the brightness.
    """

    depth: np.ndarray
    corners: np.ndarray
    weights: np.ndarray


def surface_picture(found: CaseSurfaces) -> bytes:
    """The picture as PNG; of one line of text if there is no surface."""
    from PIL import Image, ImageDraw, ImageFont

    rows = [row for row in _rows(found) if row.surfaces]
    width = len(VIEWS) * PANEL + (len(VIEWS) - 1) * GAP
    page = Image.new("RGB", (width, max(1, len(rows)) * (HEAD + PANEL)), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    if not rows:
        draw.text((8, 4), "Neither segmentation has a voxel of any class.", fill=INK, font=font)
    centre, radius = _sphere([s.mesh for s in found.surfaces])
    used = {number for row in rows for number, _ in row.surfaces}
    for column, (name, (axes, letters)) in enumerate(VIEWS.items()):
        seen = {n: _look(found.surfaces[n].mesh, np.array(axes, np.float64), centre, radius) for n in used}
        described = "from above" if name == "above" else f"from the {name}"
        for number, row in enumerate(rows):
            corner = (column * (PANEL + GAP), number * (HEAD + PANEL) + HEAD)
            page.paste(Image.fromarray(_panel([(seen[n], colours) for n, colours in row.surfaces])), corner)
            text = (letters, described) if found.oriented else ("????", "")
            _write(draw, corner, text, font)
    for number, row in enumerate(rows):
        draw.text((8, number * (HEAD + PANEL) + 4), row.title, fill=INK, font=font)
    stream = io.BytesIO()
    page.save(stream, "PNG")
    return stream.getvalue()


def distance_colours(distance_mm: np.ndarray, range_mm: float) -> np.ndarray:
    """Colours of signed distances, uint8, shape (n, 3); grey where there is none."""
    inside, middle, outside = (np.array(rgb(colour), np.float64) for colour in DISTANCE_COLOURS)
    known = np.isfinite(distance_mm)
    share = np.clip(np.where(known, distance_mm, 0) / range_mm, -1, 1)[:, None]
    mixed = middle + np.abs(share) * (np.where(share < 0, inside, outside) - middle)
    return np.where(known[:, None], np.rint(mixed), rgb(NO_DISTANCE_COLOUR)).astype(np.uint8)


def _rows(found: CaseSurfaces) -> list[_Row]:
    classes = [(n, s) for n, s in enumerate(found.surfaces) if not found.structures[s.structure].is_region]

    def of(side: str) -> tuple[tuple[int, np.ndarray], ...]:
        chosen = [(n, s) for n, s in classes if s.side == side]
        return tuple((n, np.tile(_colour(found, s), (len(s.mesh.vertices), 1))) for n, s in chosen)

    compared = [(n, s) for n, s in classes if s.side == "prediction" and s.distance_mm is not None]
    largest = sorted(compared, key=lambda pair: -pair[1].volume_ml)[:MAX_CLASSES]
    signs = f"blue {RANGE_MM:g} mm inside the reference, red {RANGE_MM:g} mm outside, grey: not compared"
    rows = [_Row("reference", of("truth")), _Row("prediction", of("prediction"))]
    for n, s in compared:
        if any(n == other for other, _ in largest) and s.distance_mm is not None:
            colours = distance_colours(s.distance_mm, RANGE_MM)
            rows.append(_Row(f"{found.structures[s.structure].name}, prediction: {signs}", ((n, colours),)))
    return rows


def _colour(found: CaseSurfaces, surface: Surface) -> np.ndarray:
    return np.array(rgb(found.structures[surface.structure].colour), np.uint8)


def _sphere(meshes: Sequence[Mesh]) -> tuple[np.ndarray, float]:
    """Centre and radius of a sphere around all vertices."""
    if not meshes:
        return np.zeros(3), 1.0
    low = np.min([m.vertices.min(axis=0) for m in meshes], axis=0)
    high = np.max([m.vertices.max(axis=0) for m in meshes], axis=0)
    centre = (low + high) / 2
    return centre, max(1e-6, max(float(np.linalg.norm(m.vertices - centre, axis=1).max()) for m in meshes))


def _panel(surfaces: Sequence[tuple[_Seen, np.ndarray]]) -> np.ndarray:
    """One view of surfaces with colours of their vertices, uint8, shape (PANEL, PANEL, 3)."""
    nearest = np.full(PANEL * PANEL, -np.inf)
    picture = np.zeros((PANEL * PANEL, 3))
    for seen, colours in surfaces:
        closer = seen.depth > nearest
        nearest[closer] = seen.depth[closer]
        picture[closer] = np.einsum("nc,ncd->nd", seen.weights[closer], colours[seen.corners[closer]])
    return picture.reshape(PANEL, PANEL, 3).astype(np.uint8)


def _look(mesh: Mesh, axes: np.ndarray, centre: np.ndarray, radius: float) -> _Seen:
    """What is seen of a surface: points on the faces that look at the viewer, the nearest one in each pixel."""
    screen = (mesh.vertices - centre) @ axes.T * (PANEL / (2.1 * radius))
    x, y, depth = screen[:, 0] + PANEL / 2, PANEL / 2 - screen[:, 1], screen[:, 2]
    a, b, c = mesh.faces.T
    area = ((y[b] - y[a]) * (x[c] - x[a]) - (x[b] - x[a]) * (y[c] - y[a])) / 2  # positive where seen from outside
    facing = np.flatnonzero(area > 0)
    counts = np.ceil(SAMPLES * area[facing]).astype(np.int64) + 1
    if counts.sum() > MAX_SAMPLES:
        counts = np.maximum(1, counts * MAX_SAMPLES // counts.sum())
    faces = np.repeat(facing, counts)
    u, v = np.random.default_rng(0).random((2, len(faces)))
    over = u + v > 1
    u[over], v[over] = 1 - u[over], 1 - v[over]
    a, b, c = a[faces], b[faces], c[faces]
    at_x, at_y, at_depth = (n[a] + u * (n[b] - n[a]) + v * (n[c] - n[a]) for n in (x, y, depth))
    columns, lines = (np.clip(n.astype(np.int32), 0, PANEL - 1) for n in (at_x, at_y))
    pixels = lines * PANEL + columns
    winner = np.full(PANEL * PANEL, -1)
    order = np.argsort(at_depth)
    winner[pixels[order]] = order  # the nearest one is written last
    hit = winner >= 0
    chosen = winner[hit]
    seen = _Seen(np.full(len(hit), -np.inf), np.zeros((len(hit), 3), np.int32), np.zeros((len(hit), 3)))
    light = AMBIENT + (1 - AMBIENT) * np.clip(vertex_normals(mesh) @ axes[2], 0, 1)
    corners = mesh.faces[faces[chosen]]
    shares = np.stack([1 - u[chosen] - v[chosen], u[chosen], v[chosen]], axis=1)
    seen.depth[hit], seen.corners[hit] = at_depth[chosen], corners
    seen.weights[hit] = shares * (shares * light[corners]).sum(axis=1, keepdims=True)
    return seen


def _write(draw: Any, corner: tuple[int, int], text: tuple[str, str], font: Any) -> None:
    """Write the letters of the patient's sides at the edges of a panel, and from where it is seen in a corner."""
    (x, y), (letters, view) = corner, text
    middle, end = PANEL // 2, PANEL - 4
    places = ((4, middle, "lm"), (end, middle, "rm"), (middle, 4, "ma"), (middle, end, "md"))
    for letter, (dx, dy, anchor) in zip(letters, places, strict=True):
        draw.text((x + dx, y + dy), letter, fill=FAINT, font=font, anchor=anchor)
    draw.text((x + 4, y + PANEL - 6), view, fill=FAINT, font=font, anchor="ld")
