"""A picture of one subject: an axial slice, plain on the left, with coloured labels on the right.

The patient's nose is up. Where the orientation is known the picture is in radiological convention (the patient's
left is on the right); where it is unknown nothing is flipped, and left and right mean nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.errors import DatasetError
from core.imaging.geometry import Geometry
from core.labels import LabelSpace

CONVENTION = "axial, nose up, radiological: the patient's left is on the right"
CONVENTION_UNKNOWN = (
    "third axis as stored, second axis up; the files state no orientation, so left and right are unknown"
)
HEIGHT = 192  # pixels
MAX_WIDTH = 384  # pixels, of one half
LABEL_OPACITY = 0.55
GAP = 4  # pixels between the halves
MARGIN = 4  # voxels left around what is not empty


def thumbnail(image: np.ndarray, label: np.ndarray | None, geometry: Geometry, labels: LabelSpace) -> np.ndarray:
    """Draw one subject.

    Parameters
    ----------
    image : intensities in canonical order, shape (i, j, k).
    label : class indices, same shape, or ``None``: then the right half repeats the image.
    geometry : of the arrays; voxels are drawn in their true proportions.

    Returns
    -------
    uint8, shape (height, width, 3). The slice is the one through the middle of the labelled part, else of the
    volume; empty margins are cut; its grey levels run from the 1st to the 99th percentile of its non-zero voxels.
    """
    from PIL import Image

    k = _middle(label) if label is not None else None
    k = image.shape[2] // 2 if k is None else k
    window = _window(image[:, :, k], label[:, :, k] if label is not None else None)
    plane = image[:, :, k][window]
    grey = Image.fromarray(_grey_levels(_upright(plane, geometry)))
    size = _size(plane.shape, geometry)
    left = np.asarray(grey.resize(size, Image.Resampling.BILINEAR))[..., None].repeat(3, axis=2)
    right = left
    if label is not None:
        index = Image.fromarray(_upright(label[:, :, k][window], geometry).astype(np.uint8))
        right = _coloured(left, np.asarray(index.resize(size, Image.Resampling.NEAREST)), labels)
    gap = np.zeros((left.shape[0], GAP, 3), np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def write_thumbnail(path: Path, rgb: np.ndarray) -> None:
    """Write a picture as PNG.

    Raises
    ------
    DatasetError
        If it cannot be written.
    """
    from PIL import Image

    try:
        Image.fromarray(rgb).save(path, format="PNG")
    except OSError as error:
        raise DatasetError(
            f"{path}: the picture cannot be written: {error.strerror or error}; choose another place"
        ) from error


def _middle(label: np.ndarray) -> int | None:
    """The middle of the slices that hold a label, or ``None`` where none does."""
    slices = np.flatnonzero(label.any(axis=(0, 1)))
    return int(slices[slices.size // 2]) if slices.size else None


def _upright(plane: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A slice (i, j) as picture rows and columns: anterior up; the patient's right on the left where it is known."""
    rows = plane.T[::-1]
    return np.ascontiguousarray(rows[:, ::-1] if geometry.oriented else rows)


def _window(plane: np.ndarray, label: np.ndarray | None) -> tuple[slice, slice]:
    """The part of a slice (i, j) that is not empty, with a margin; all of it where nothing is."""
    content = plane != 0 if label is None else (plane != 0) | (label != 0)
    if not content.any():
        return slice(None), slice(None)
    spans = []
    for axis in (0, 1):
        filled = np.flatnonzero(content.any(axis=1 - axis))
        spans.append(slice(max(0, int(filled[0]) - MARGIN), int(filled[-1]) + 1 + MARGIN))
    return spans[0], spans[1]


def _size(shape: tuple[int, ...], geometry: Geometry) -> tuple[int, int]:
    """Width and height in pixels of a slice (i, j)."""
    width_mm = shape[0] * geometry.spacing_mm[0]
    height_mm = shape[1] * geometry.spacing_mm[1]
    scale = min(HEIGHT / height_mm, MAX_WIDTH / width_mm)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _grey_levels(plane: np.ndarray) -> np.ndarray:
    """Intensities to uint8."""
    values = plane[plane != 0]
    if not values.size:
        return np.zeros(plane.shape, np.uint8)
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    if plane.min() >= 0:
        low = min(low, 0.9 * low + 0.1 * float(values.min()))
    span = (high - low) or 1.0
    levels = np.clip((plane.astype(np.float64) - low) / span, 0, 1) * 255
    return levels.astype(np.uint8)


def _coloured(grey: np.ndarray, index: np.ndarray, labels: LabelSpace) -> np.ndarray:
    """Lay the classes' colours over a grey picture; the background stays as it is."""
    colours = np.array([[int(c.colour[n : n + 2], 16) for n in (1, 3, 5)] for c in labels.classes], np.float32)
    opacity = np.where(index > 0, LABEL_OPACITY, 0)[..., None]
    return (grey * (1 - opacity) + colours[index] * opacity).round().astype(np.uint8)
