"""What the intensities of an image say about its classes, and how much they leave open: histograms, overlaps, shares.

All counts are of the head alone: the voxels that are not 0 in every modality (skull-stripped data), or have a class.
A *guess by intensity* gives every voxel the class that is most frequent among the voxels in the same bin of the
histogram; no rule that looks at one voxel's intensity alone, at this resolution, is right more often on this image.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from core.types import VoxelIndex

BINS = 64


@dataclass(frozen=True)
class Tissue:
    """One subject's classes and their intensities. Index c of a class means class c + 1: the background is left out.

    Attributes
    ----------
    edges : per modality, the BINS + 1 borders of its bins, from the least to the greatest intensity of the head.
    counts : voxels, int64 (modalities, classes, BINS).
    joint : voxels by the bins of the first two modalities, int64 (classes, BINS, BINS); ``None`` with one modality.
    overlaps : per modality, ``{(c, d): sum over bins of the smaller of two normalised histograms}``, 0 to 1; NaN where
        one of the two is absent.
    guesses : share of labelled voxels that a guess by intensity gets right: one per modality, then both (if there are).
    voxels : of every class, the background included.
    total : voxels of the volume.
    """

    edges: np.ndarray
    counts: np.ndarray
    joint: np.ndarray | None
    overlaps: tuple[dict[tuple[int, int], float], ...]
    guesses: tuple[float, ...]
    voxels: tuple[int, ...]
    total: int


def tissue(image: np.ndarray, label: np.ndarray, classes: int) -> Tissue:
    """Count a subject.

    Parameters
    ----------
    image : float32, shape (channels, i, j, k).
    label : class indices below ``classes``, shape (i, j, k).
    classes : number of classes, the background included.

    Raises
    ------
    ValueError
        If there is no head, or no labelled voxel.
    """
    head = (image != 0).any(axis=0) | (label > 0)
    index = label[head].astype(np.int64)
    if not (index > 0).any():
        raise ValueError("expected at least one labelled voxel, found none")
    edges, bins = [], []
    for values in image[:, head]:
        low, high = float(values.min()), float(values.max())
        edges.append(np.linspace(low, high if high > low else low + 1, BINS + 1))
        place = np.searchsorted(edges[-1], values, side="right") - 1  # as np.histogram: the last bin is closed
        bins.append(place.clip(0, BINS - 1))
    counts = np.stack([_count(index * BINS + b, classes, BINS) for b in bins])
    joint = None
    if len(bins) > 1:
        both = bins[0] * BINS + bins[1]
        joint = _count(index * BINS**2 + both, classes, BINS**2).reshape(classes - 1, BINS, BINS)
    tables = [*counts, *([] if joint is None else [joint.reshape(classes - 1, -1)])]
    return Tissue(
        edges=np.stack(edges),
        counts=counts,
        joint=joint,
        overlaps=tuple(_overlaps(table) for table in counts),
        guesses=tuple(float(table.max(axis=0).sum() / table.sum()) for table in tables),
        voxels=tuple(int(n) for n in np.bincount(label.ravel(), minlength=classes)),
        total=label.size,
    )


def _count(cell: np.ndarray, classes: int, cells: int) -> np.ndarray:
    """Voxels by class and cell, the background left out."""
    return np.bincount(cell, minlength=classes * cells).reshape(classes, cells)[1:]


def _overlaps(counts: np.ndarray) -> dict[tuple[int, int], float]:
    sizes = counts.sum(axis=1)
    found = {}
    for c, d in itertools.combinations(range(len(counts)), 2):
        there = sizes[c] > 0 and sizes[d] > 0
        found[c, d] = float(np.minimum(counts[c] / sizes[c], counts[d] / sizes[d]).sum()) if there else float("nan")
    return found


def middle(label: np.ndarray) -> VoxelIndex:
    """The middle of the box around everything that is labelled; of the volume where nothing is."""
    if not label.any():
        i, j, k = (n // 2 for n in label.shape)
        return i, j, k
    spans = [np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    i, j, k = ((int(span[0]) + int(span[-1])) // 2 for span in spans)
    return i, j, k
