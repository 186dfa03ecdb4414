"""Thumbnails of subjects: an axial slice, plain on the left, with coloured labels on the right.

Anterior is up. Where the orientation is known the picture is in radiological convention (the patient's left is on the
right); where it is unknown nothing is mirrored.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from core.datasets.contact_sheet import SHEET
from core.errors import DatasetError
from core.imaging.display import upright_slices
from core.imaging.geometry import Geometry
from core.imaging.outliers import intensity_range
from core.imaging.overlay import overlay_classes
from core.labels import IGNORE_INDEX, LabelSpace

RADIOLOGICAL = "axial, anterior up, radiological: the patient's left is on the right"
UNKNOWN_ORIENTATION = (
    "third axis as stored, second axis up; the files state no orientation, so left and right are unknown"
)
HEIGHT = 192  # pixels
MAX_WIDTH = 384  # pixels of one half
GAP = 4  # pixels between the halves
MARGIN = 4  # voxels around the content
LABEL_OPACITY = 0.55
_NOT_IN_NAMES = re.compile(r'[%/\\:*?"<>|\x00-\x1f]')  # characters that not every system has in file names


def render_thumbnail(image: np.ndarray, label: np.ndarray | None, geometry: Geometry, labels: LabelSpace) -> np.ndarray:
    """Render one subject.

    The slice is the central one of the labelled slices, else of the volume, cropped to its content. Grey levels span
    the 1st to the 99th percentile of its non-zero voxels, without outliers of the volume.

    Parameters
    ----------
    image : ndarray, shape (i, j, k). Intensities in canonical order.
    label : ndarray, shape (i, j, k), or None. Class indices; without them the right half repeats the image. Ignored
        voxels are hatched.
    geometry : Geometry. Geometry of the arrays; the picture has the true proportions of the voxels.
    labels : LabelSpace. Colours of the classes.

    Returns
    -------
    ndarray, uint8, shape (height, width, 3).
    """
    from PIL import Image

    k = _central_labelled_slice(label) if label is not None else None
    k = image.shape[2] // 2 if k is None else k
    window = _content_window(image[:, :, k], label[:, :, k] if label is not None else None)
    inliers = intensity_range(image)
    plane = image[:, :, k][window].clip(inliers.low, inliers.high)
    grey = Image.fromarray(upright_slices(_grey_levels(plane), geometry.oriented))
    size = _size_in_pixels(plane.shape, geometry)
    left = np.asarray(grey.resize(size, Image.Resampling.BILINEAR))[..., None].repeat(3, axis=2)
    right = left
    if label is not None:
        index = Image.fromarray(upright_slices(label[:, :, k][window].astype(np.uint8), geometry.oriented))
        resized = np.asarray(index.resize(size, Image.Resampling.NEAREST))
        colours = [c.colour for c in labels.classes]
        right = overlay_classes(left, resized, colours, LABEL_OPACITY).round().astype(np.uint8)
    gap = np.zeros((left.shape[0], GAP, 3), np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def thumbnail_name(id: str) -> str:
    """File name of the thumbnail of a subject: its id, in which characters that file names cannot have are as in URLs;
    none is that of the contact sheet."""
    name = _NOT_IN_NAMES.sub(lambda found: f"%{ord(found[0]):02X}", id)
    if name.startswith(".") or name.casefold() == Path(SHEET).stem:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return f"{name}.png"


def write_thumbnail(path: Path, rgb: np.ndarray) -> None:
    """Write a picture, uint8, shape (height, width, 3), as PNG.

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


def _central_labelled_slice(label: np.ndarray) -> int | None:
    """Median index of the axial slices with a label, or ``None`` without any."""
    slices = np.flatnonzero(((label > 0) & (label != IGNORE_INDEX)).any(axis=(0, 1)))
    return int(slices[slices.size // 2]) if slices.size else None


def _content_window(plane: np.ndarray, label: np.ndarray | None) -> tuple[slice, slice]:
    """Part of a slice (i, j) that is not empty, with a margin; the whole slice where all of it is empty."""
    content = plane != 0 if label is None else (plane != 0) | (label != 0)
    if not content.any():
        return slice(None), slice(None)
    spans = []
    for axis in (0, 1):
        filled = np.flatnonzero(content.any(axis=1 - axis))
        spans.append(slice(max(0, int(filled[0]) - MARGIN), int(filled[-1]) + 1 + MARGIN))
    return spans[0], spans[1]


def _size_in_pixels(shape: tuple[int, ...], geometry: Geometry) -> tuple[int, int]:
    """Width and height in pixels of a slice (i, j)."""
    width_mm = shape[0] * geometry.spacing_mm[0]
    height_mm = shape[1] * geometry.spacing_mm[1]
    scale = min(HEIGHT / height_mm, MAX_WIDTH / width_mm)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _grey_levels(plane: np.ndarray) -> np.ndarray:
    """Intensities as uint8."""
    values = plane[plane != 0]
    if not values.size:
        return np.zeros(plane.shape, np.uint8)
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    if plane.min() >= 0:
        low = min(low, 0.9 * low + 0.1 * float(values.min()))
    span = (high - low) or 1.0
    levels = np.clip((plane.astype(np.float64) - low) / span, 0, 1) * 255
    return levels.astype(np.uint8)
