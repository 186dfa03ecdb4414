"""Data of the Learn page's figures about one labelled subject: counted and cut out once, small enough to send."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from core.datasets import Dataset, LoadedSubject, load_subject, open_dataset
from core.errors import DatasetError
from core.files import file_stamp
from core.imaging.display import channels, upright_slices
from core.imaging.outliers import intensity_range
from core.inspection.intensity_histograms import BINS, IntensityHistograms, compute_histograms, label_centre
from core.labels import IGNORE_INDEX, PALETTE, LabelSpace
from core.types import Size3, VoxelIndex
from ui.shared import cache

BLOCK = 21  # voxels per side of the block under the kernel, in the slice
BLOCK_STEP = 5  # voxels between the positions that are compared for the block
BLOCK_REACH = 24  # voxels around the middle of the labels within which the block may lie
MARGIN = 8  # voxels around the head in the slice of the masks
DISC_IMAGE = (72, 54)  # width and height of the image of the disc
DISC_RADII = (15, 11)  # pixels
PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))  # name, axis perpendicular to the plane
OVERLAY_OPACITY = 0.45


@dataclass(frozen=True)
class SubjectData:
    """Data of one subject, per figure, as plain JSON values.

    Attributes
    ----------
    intensities : dict. Intensity histograms per modality and class, their overlaps, and the accuracies of a
        classification by intensity.
    block : dict. Three neighbouring axial slices of the first modality, values 0 to 99.
    slices : dict. The middle slices as PNG pictures; shape and voxel size of the volume.
    masks : tuple of dict. Mask of each class in the middle axial slice.
    shares : dict. Share of each class of all voxels, the background included.
    extent : tuple of int. Size in voxels (i, j, k) of the bounding box of the labels, with a margin.
    """

    intensities: dict[str, Any]
    block: dict[str, Any]
    slices: dict[str, Any]
    masks: tuple[dict[str, Any], ...]
    shares: dict[str, Any]
    extent: Size3


def cached_subject_data(folder: Path, subject: str) -> SubjectData:
    """Data of a labelled subject; read again when its label file changes.

    Raises
    ------
    UserError
        If the subject cannot be read.
    """
    label = cache.dataset(folder).subject(subject).label
    return _cached_subject_data(str(folder), subject, file_stamp(label or folder))


@st.cache_data(max_entries=4, show_spinner="Reading the subject")
def _cached_subject_data(folder: str, subject: str, stamp: tuple[int, int]) -> SubjectData:
    return read_subject_data(Path(folder), subject)


def read_subject_data(folder: Path, subject: str) -> SubjectData:
    """Read a labelled subject of a data set.

    Raises
    ------
    UserError
        If the subject cannot be read or has no labelled voxel.
    """
    dataset = open_dataset(folder)
    loaded = load_subject(dataset, subject)
    label = loaded.label
    if label is None or not ((label > 0) & (label != IGNORE_INDEX)).any():
        raise DatasetError(f"{folder}: expected a label map of {subject} with labelled voxels, found none")
    histograms = compute_histograms(loaded.image, label, len(dataset.labels))
    label = np.where(label == IGNORE_INDEX, 0, label)  # pictures show ignored voxels without a colour
    loaded, centre = replace(loaded, label=label), label_centre(label)
    return SubjectData(
        _intensities(dataset, subject, histograms),
        _block(loaded, dataset.modalities[0], centre),
        _slices(loaded, dataset.labels, centre),
        tuple(_masks(label, dataset.labels, centre[2], loaded.geometry.oriented)),
        _shares(dataset.labels, subject, histograms),
        _extent(label),
    )


def disc_mask() -> dict[str, Any]:
    """The mask of an elliptic disc: the simplest structure, and the only one without a subject."""
    (width, height), (radius_x, radius_y) = DISC_IMAGE, DISC_RADII
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    mask = ((x - (width - 1) / 2) / radius_x) ** 2 + ((y - (height - 1) / 2) / radius_y) ** 2 <= 1
    return _mask("round", PALETTE[4], mask)


def _intensities(dataset: Dataset, subject: str, histograms: IntensityHistograms) -> dict[str, Any]:
    joint = histograms.joint_counts
    return {
        "subject": subject,
        "head": int(histograms.counts[0].sum()),
        "bins": BINS,
        "modalities": list(dataset.modalities),
        "classes": [{"name": c.name, "colour": c.colour} for c in dataset.labels.foreground],
        "ranges": [[float(edges[0]), float(edges[-1])] for edges in histograms.bin_edges],
        "counts": histograms.counts.tolist(),
        "joint": None if joint is None else joint.reshape(len(joint), -1).tolist(),
        "overlaps": [
            [[c, d, None if math.isnan(value) else round(value, 4)] for (c, d), value in pairs.items()]
            for pairs in histograms.overlaps
        ],
        "accuracies": list(histograms.accuracies),
    }


def _shares(labels: LabelSpace, subject: str, histograms: IntensityHistograms) -> dict[str, Any]:
    shares = [
        {"name": c.name, "colour": c.colour, "share": n / histograms.total_voxels}
        for c, n in zip(labels.classes, histograms.class_voxels, strict=True)
    ]
    return {"subject": subject, "total": histograms.total_voxels, "shares": shares}


def _extent(label: np.ndarray) -> Size3:
    labelled = [np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    i, j, k = (min(int(s[-1] - s[0]) + 1 + MARGIN, n) for s, n in zip(labelled, label.shape, strict=True))
    return i, j, k


def _block(loaded: LoadedSubject, modality: str, centre: VoxelIndex) -> dict[str, Any]:
    """The block inside the head whose outer slices differ most, of those near the middle."""
    (i, j, k), inliers = centre, intensity_range(loaded.image[0])
    image = loaded.image[0].clip(inliers.low, inliers.high)
    best, best_change = None, -1.0
    for first_i in range(max(0, i - BLOCK_REACH), max(1, min(i + BLOCK_REACH, image.shape[0]) - BLOCK), BLOCK_STEP):
        for first_j in range(max(0, j - BLOCK_REACH), max(1, min(j + BLOCK_REACH, image.shape[1]) - BLOCK), BLOCK_STEP):
            block = image[first_i : first_i + BLOCK, first_j : first_j + BLOCK, max(0, k - 1) : k + 2]
            if block.shape != (BLOCK, BLOCK, 3):
                continue
            in_head = float((block != 0).mean() > 0.99)
            change = float(np.abs(block[..., 2] - block[..., 0]).mean()) * in_head
            if change > best_change:
                best, best_change = block, change
    if best is None:
        raise DatasetError(f"{loaded.id}: expected at least {BLOCK}x{BLOCK}x3 voxels around the middle of its labels")
    low, high = (float(v) for v in np.percentile(best, (1, 99)))
    scaled = np.rint((best - low) * (99 / ((high - low) or 1.0))).clip(0, 99).astype(int)
    rows = upright_slices(np.moveaxis(scaled, 2, 0), loaded.geometry.oriented)  # (slice, row, column)
    return {"subject": loaded.id, "modality": modality, "size": BLOCK, "values": rows.ravel().tolist()}


def _slices(loaded: LoadedSubject, labels: LabelSpace, centre: VoxelIndex) -> dict[str, Any]:
    from PIL import Image

    assert loaded.label is not None
    low, high = channels(loaded.image[:1], ("",))[0].window
    colours = np.array([[int(c.colour[n : n + 2], 16) for n in (1, 3, 5)] for c in labels.classes], np.float32)
    pictures = {}
    for name, axis in PLANES:
        grey = (loaded.image[0].take(centre[axis], axis).astype(np.float32) - low) * (255 / (high - low))
        index = loaded.label.take(centre[axis], axis)
        opacity = np.where(index > 0, OVERLAY_OPACITY, 0.0)[..., None]
        rgb = grey.clip(0, 255)[..., None] * (1 - opacity) + colours[index] * opacity
        rows = np.moveaxis(upright_slices(np.moveaxis(rgb, -1, 0), loaded.geometry.oriented), 0, -1)
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(rows.round().astype(np.uint8))).save(file, format="PNG")
        pictures[name] = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    geometry = loaded.geometry
    return {
        "slices": pictures,
        "shape": list(geometry.shape),
        "spacing": list(geometry.spacing_mm),
        "oriented": geometry.oriented,
    }


def _masks(label: np.ndarray, labels: LabelSpace, k: int, oriented: bool) -> Sequence[dict[str, Any]]:
    """The mask of each class in an axial slice, cropped to the labels and a margin."""
    plane = label[:, :, k]
    box = []
    for axis in (0, 1):
        labelled = np.flatnonzero(plane.any(axis=1 - axis))
        box.append(slice(max(0, int(labelled[0]) - MARGIN), int(labelled[-1]) + 1 + MARGIN))
    rows = upright_slices(plane[box[0], box[1]], oriented)
    return [
        _mask(f"{c.name} in a slice", c.colour, rows == n)
        for n, c in enumerate(labels.classes)
        if n and (rows == n).any()
    ]


def _mask(name: str, colour: str, mask: np.ndarray) -> dict[str, Any]:
    """A mask of shape (row, column) as packed bits."""
    data = base64.b64encode(np.packbits(mask.ravel()).tobytes()).decode()
    return {"name": name, "colour": colour, "width": mask.shape[1], "height": mask.shape[0], "mask": data}
