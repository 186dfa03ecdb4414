"""What the Learn page shows of one subject: counted and cut out once, small enough to send."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from core.datasets import Dataset, LoadedSubject, load_subject, open_dataset
from core.errors import DatasetError
from core.imaging.display import channels
from core.inspection.intensity_histograms import BINS, Tissue, middle, tissue
from core.labels import PALETTE, LabelSpace
from core.types import Size3, VoxelIndex
from ui.shared import cache

BLOCK = 21  # voxels a side of the three slices under the kernel
STEP = 5  # voxels between the places that are tried for them
REACH = 24  # voxels around the middle in which they are looked for
MARGIN = 8  # voxels around the head in the slice of the masks
BLOB = (72, 54)  # size of the image of the round structure
PLANES = (("axial", 2, 0, 1), ("coronal", 1, 0, 2), ("sagittal", 0, 1, 2))  # name, axis, axis across, axis up
OVERLAY = 0.45  # opacity of the labels


@dataclass(frozen=True)
class Lesson:
    """Parts of one subject, each as the figure that shows it wants it (plain JSON values).

    Attributes
    ----------
    intensities : histograms, overlaps and guesses by intensity.
    block : three neighbouring axial slices of the first modality, values 0 to 99.
    slices : the middle slices as pictures, with size and voxel size of the volume.
    masks : of each class in the middle axial slice.
    shares : of each class in all voxels, the background included.
    extent : voxels along i, j, k of the box around everything that is labelled, with some air around it.
    """

    intensities: dict[str, Any]
    block: dict[str, Any]
    slices: dict[str, Any]
    masks: tuple[dict[str, Any], ...]
    shares: dict[str, Any]
    extent: Size3


def cached_lesson(folder: Path, subject: str) -> Lesson:
    """What the Learn page shows of a labelled subject, read again when its label file changes.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    label = cache.dataset(folder).subject(subject).label
    return _cached_lesson(str(folder), subject, cache.file_stamp(label or folder))


@st.cache_data(max_entries=4, show_spinner="Reading the subject")
def _cached_lesson(folder: str, subject: str, stamp: tuple[int, int]) -> Lesson:
    return read_lesson(Path(folder), subject)


def read_lesson(folder: Path, subject: str) -> Lesson:
    """Read a labelled subject of a data set.

    Raises
    ------
    UserError
        If it cannot be read or nothing in it is labelled.
    """
    dataset = open_dataset(folder)
    loaded = load_subject(dataset, subject)
    if loaded.label is None or not loaded.label.any():
        raise DatasetError(f"{folder}: expected a label map of {subject} with something in it, found none")
    counted = tissue(loaded.image, loaded.label, len(dataset.labels))
    at = middle(loaded.label)
    return Lesson(
        _intensities(dataset, subject, counted),
        _block(loaded, dataset.modalities[0], at),
        _slices(loaded, dataset.labels, at),
        tuple(_masks(loaded.label, dataset.labels, at[2], loaded.geometry.oriented)),
        _shares(dataset.labels, subject, counted),
        _extent(loaded.label),
    )


def blob() -> dict[str, Any]:
    """A round structure, for when there is no subject yet, and because it is the simplest."""
    width, height = BLOB
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    inside = ((x - (width - 1) / 2) / 15) ** 2 + ((y - (height - 1) / 2) / 11) ** 2 <= 1
    return _mask("round", PALETTE[4], inside)


def _intensities(dataset: Dataset, subject: str, counted: Tissue) -> dict[str, Any]:
    return {
        "subject": subject,
        "head": int(counted.counts[0].sum()),
        "bins": BINS,
        "modalities": list(dataset.modalities),
        "classes": [{"name": c.name, "colour": c.colour} for c in dataset.labels.foreground],
        "ranges": [[float(edges[0]), float(edges[-1])] for edges in counted.edges],
        "counts": counted.counts.tolist(),
        "joint": None if counted.joint is None else counted.joint.reshape(len(counted.joint), -1).tolist(),
        "overlaps": [
            [[c, d, None if math.isnan(value) else round(value, 4)] for (c, d), value in pairs.items()]
            for pairs in counted.overlaps
        ],
        "guesses": list(counted.guesses),
    }


def _shares(labels: LabelSpace, subject: str, counted: Tissue) -> dict[str, Any]:
    shares = [
        {"name": c.name, "colour": c.colour, "share": n / counted.total}
        for c, n in zip(labels.classes, counted.voxels, strict=True)
    ]
    return {"subject": subject, "total": counted.total, "shares": shares}


def _extent(label: np.ndarray) -> Size3:
    spans = [np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    i, j, k = (min(int(s[-1] - s[0]) + 1 + MARGIN, n) for s, n in zip(spans, label.shape, strict=True))
    return i, j, k


def _block(loaded: LoadedSubject, modality: str, at: VoxelIndex) -> dict[str, Any]:
    """Of the places near the middle, all of it inside the head, the one where the slices differ most."""
    image, (i, j, k) = loaded.image[0], at
    best, best_change = None, -1.0
    for first_i in range(max(0, i - REACH), max(1, min(i + REACH, image.shape[0]) - BLOCK), STEP):
        for first_j in range(max(0, j - REACH), max(1, min(j + REACH, image.shape[1]) - BLOCK), STEP):
            found = image[first_i : first_i + BLOCK, first_j : first_j + BLOCK, max(0, k - 1) : k + 2]
            if found.shape != (BLOCK, BLOCK, 3):
                continue
            change = float(np.abs(found[..., 2] - found[..., 0]).mean()) * float((found != 0).mean() > 0.99)
            if change > best_change:
                best, best_change = found, change
    if best is None:
        raise DatasetError(f"{loaded.id}: expected at least {BLOCK}x{BLOCK}x3 voxels around the middle of its labels")
    low, high = (float(v) for v in np.percentile(best, (1, 99)))
    scaled = np.rint((best - low) * (99 / ((high - low) or 1.0))).clip(0, 99).astype(int)
    rows = _upright(np.moveaxis(scaled, 2, 0), loaded.geometry.oriented)  # (slice, row, column)
    return {"subject": loaded.id, "modality": modality, "size": BLOCK, "values": rows.ravel().tolist()}


def _slices(loaded: LoadedSubject, labels: LabelSpace, at: VoxelIndex) -> dict[str, Any]:
    from PIL import Image

    assert loaded.label is not None
    low, high = channels(loaded.image[:1], ("",))[0].window
    colours = np.array([[int(c.colour[n : n + 2], 16) for n in (1, 3, 5)] for c in labels.classes], np.float32)
    pictures = {}
    for name, axis, _, _ in PLANES:
        grey = (loaded.image[0].take(at[axis], axis).astype(np.float32) - low) * (255 / (high - low))
        index = loaded.label.take(at[axis], axis)
        opacity = np.where(index > 0, OVERLAY, 0.0)[..., None]
        rgb = grey.clip(0, 255)[..., None] * (1 - opacity) + colours[index] * opacity
        upright = np.moveaxis(_upright(np.moveaxis(rgb, -1, 0), loaded.geometry.oriented), 0, -1)
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(upright.round().astype(np.uint8))).save(file, format="PNG")
        pictures[name] = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    geometry = loaded.geometry
    return {
        "slices": pictures, "shape": list(geometry.shape), "spacing": list(geometry.spacing_mm),
        "oriented": geometry.oriented,
    }  # fmt: skip


def _masks(label: np.ndarray, labels: LabelSpace, k: int, oriented: bool) -> Sequence[dict[str, Any]]:
    """Every class that the axial slice has, in the part of it around all of them."""
    plane = label[:, :, k]
    spans = []
    for axis in (0, 1):
        there = np.flatnonzero(plane.any(axis=1 - axis))
        spans.append(slice(max(0, int(there[0]) - MARGIN), int(there[-1]) + 1 + MARGIN))
    rows = _upright(plane[spans[0], spans[1]], oriented)
    return [
        _mask(f"{c.name} in a slice", c.colour, rows == n)
        for n, c in enumerate(labels.classes)
        if n and (rows == n).any()
    ]


def _mask(name: str, colour: str, mask: np.ndarray) -> dict[str, Any]:
    """A mask (row, column) as packed bits."""
    data = base64.b64encode(np.packbits(mask.ravel()).tobytes()).decode()
    return {"name": name, "colour": colour, "width": mask.shape[1], "height": mask.shape[0], "mask": data}


def _upright(plane: np.ndarray, oriented: bool) -> np.ndarray:
    """Slices (..., across, up) as picture rows and columns; mirrored as in the viewer."""
    rows = np.moveaxis(plane, -1, -2)[..., ::-1, :]
    return np.ascontiguousarray(rows[..., ::-1] if oriented else rows)
