"""A picture of the surfaces of a case from three sides, for where nothing can turn them.

Rows: the classes of the reference, those of the prediction, and the prediction coloured by its signed distance to the
reference. Parallel projection; surfaces hide what lies behind them.
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

PANEL, OVERSAMPLED, GAP, HEAD = 300, 2, 6, 24  # pixels: sides of a panel, factor, between panels, above a row
SAMPLES = 4.0  # points of a face per pixel that it covers
MAX_SAMPLES = 3_000_000  # of a surface in one panel
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
    """Surfaces that a row shows, with a colour for each vertex."""

    title: str
    surfaces: tuple[tuple[Surface, np.ndarray], ...]


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
    for number, row in enumerate(rows):
        top = number * (HEAD + PANEL)
        draw.text((8, top + 4), row.title, fill=INK, font=font)
        for column, (name, (axes, letters)) in enumerate(VIEWS.items()):
            panel = _panel(row, np.array(axes, np.float64), centre, radius)
            left = column * (PANEL + GAP)
            page.paste(Image.fromarray(panel), (left, top + HEAD))
            described = f"from the {name}" if name != "above" else "from above"
            _write(draw, (left, top + HEAD), letters if found.oriented else "????", described if found.oriented else "", font)
    stream = io.BytesIO()
    page.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def distance_colours(distance_mm: np.ndarray, range_mm: float) -> np.ndarray:
    """Colours of signed distances, uint8, shape (n, 3); grey where there is none."""
    inside, middle, outside = (np.array(rgb(colour), np.float64) for colour in DISTANCE_COLOURS)
    known = np.isfinite(distance_mm)
    share = np.clip(np.where(known, distance_mm, 0) / range_mm, -1, 1)[:, None]
    mixed = middle + np.abs(share) * (np.where(share < 0, inside, outside) - middle)
    return np.where(known[:, None], np.rint(mixed), rgb(NO_DISTANCE_COLOUR)).astype(np.uint8)


def _rows(found: CaseSurfaces) -> list[_Row]:
    classes = [s for s in found.surfaces if not found.structures[s.structure].is_region]

    def of(side: str) -> tuple[tuple[Surface, np.ndarray], ...]:
        chosen = [s for s in classes if s.side == side]
        return tuple((s, np.tile(_colour(found, s), (len(s.mesh.vertices), 1))) for s in chosen)

    compared = tuple(
        (s, distance_colours(s.distance_mm, RANGE_MM))
        for s in classes
        if s.side == "prediction" and s.distance_mm is not None
    )
    signs = f"distance to the reference: blue {RANGE_MM:g} mm inside, red {RANGE_MM:g} mm outside, grey: not compared"
    return [_Row("reference", of("truth")), _Row("prediction", of("prediction")), _Row(f"prediction, {signs}", compared)]


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


def _panel(row: _Row, axes: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """One view of the surfaces of a row, uint8, shape (PANEL, PANEL, 3)."""
    side = PANEL * OVERSAMPLED
    per_mm = side / (2.1 * radius)
    nearest = np.full(side * side, -np.inf)
    picture = np.zeros((side * side, 3), np.uint8)
    for surface, colours in row.surfaces:
        pixels, depths, shades = _samples(surface.mesh, colours, axes, centre, per_mm, side)
        order = np.argsort(depths, kind="stable")  # the nearest one is written last
        front = np.full(side * side, -np.inf)
        front[pixels[order]] = depths[order]
        layer = np.zeros((side * side, 3), np.uint8)
        layer[pixels[order]] = shades[order]
        closer = front > nearest
        nearest[closer], picture[closer] = front[closer], layer[closer]
    blocks = picture.reshape(PANEL, OVERSAMPLED, PANEL, OVERSAMPLED, 3).astype(np.uint16)
    covered = np.isfinite(nearest).reshape(PANEL, OVERSAMPLED, PANEL, OVERSAMPLED).sum(axis=(1, 3))
    # A pixel is as bright as its covered parts, unless fewer than half are: then it is at the edge.
    share = np.maximum(covered, OVERSAMPLED**2 // 2)[..., None]
    return (blocks.sum(axis=(1, 3)) / share).astype(np.uint8)


def _samples(
    mesh: Mesh, colours: np.ndarray, axes: np.ndarray, centre: np.ndarray, per_mm: float, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points on the faces that look at the viewer: number of the pixel, depth and shaded colour."""
    screen = (mesh.vertices - centre) @ axes.T * per_mm
    x, y, depth = screen[:, 0] + side / 2, side / 2 - screen[:, 1], screen[:, 2]
    facing = np.clip(vertex_normals(mesh) @ axes[2], 0, 1)
    shades = colours * (AMBIENT + (1 - AMBIENT) * facing)[:, None]
    a, b, c = mesh.faces.T
    area = ((y[b] - y[a]) * (x[c] - x[a]) - (x[b] - x[a]) * (y[c] - y[a])) / 2  # positive where seen from outside
    seen = np.flatnonzero(area > 0)
    counts = np.ceil(SAMPLES * area[seen]).astype(np.int64) + 1
    if counts.sum() > MAX_SAMPLES:
        counts = np.maximum(1, counts * MAX_SAMPLES // counts.sum())
    faces = mesh.faces[np.repeat(seen, counts)]
    u, v = np.random.default_rng(0).random((2, len(faces)))
    over = u + v > 1
    u[over], v[over] = 1 - u[over], 1 - v[over]
    weights = np.stack([1 - u - v, u, v], axis=1)
    pixel_x, pixel_y, depths = ((values[faces] * weights).sum(axis=1) for values in (x, y, depth))
    columns, lines = (np.clip(values.astype(np.int64), 0, side - 1) for values in (pixel_x, pixel_y))
    shaded = sum(shades[faces[:, n]] * weights[:, n : n + 1] for n in range(3))
    return lines * side + columns, depths, np.asarray(shaded).astype(np.uint8)


def _write(draw: Any, corner: tuple[int, int], letters: str, view: str, font: Any) -> None:
    """Write the letters of the patient's sides at the edges of a panel, and from where it is seen in a corner."""
    x, y = corner
    middle, end = PANEL // 2, PANEL - 4
    places = ((4, middle, "lm"), (end, middle, "rm"), (middle, 4, "ma"), (middle, end, "md"))
    for letter, (dx, dy, anchor) in zip(letters, places, strict=True):
        draw.text((x + dx, y + dy), letter, fill=FAINT, font=font, anchor=anchor)
    draw.text((x + 4, y + PANEL - 6), view, fill=FAINT, font=font, anchor="ld")
