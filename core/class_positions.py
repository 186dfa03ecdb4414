"""Where the classes of label maps lie, and whether two of them lie as mirror images of each other.

Positions are in mm along i, j, k of arrays in RAS, so that i runs from left to right.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.side_names import Side
from core.types import SpacingMm

MEASURED_VOXELS = 2_000_000  # of a label map; larger ones are measured in every second, third ... voxel


@dataclass(frozen=True)
class ClassPositions:
    """Position and size of every class in one label map; NaN for a class that is absent, and for the background.

    Attributes
    ----------
    id : str. Subject id.
    voxels : ndarray, int64, shape (class,). Measured voxels.
    centre_mm : ndarray, shape (class, 3). Centre of mass from the first voxel.
    extent_mm : ndarray, shape (class, 3). Standard deviation of the positions about the centre.
    intensity, intensity_std : ndarray, shape (class, channel). Mean and standard deviation; no channel without image.
    width_mm : float. Distance of the volume's first and last voxel along i.
    """

    id: str
    voxels: np.ndarray
    centre_mm: np.ndarray
    extent_mm: np.ndarray
    intensity: np.ndarray
    intensity_std: np.ndarray
    width_mm: float


@dataclass(frozen=True)
class Likeness:
    """How alike two classes have to be to count as mirror images of each other; medians over subjects.

    Attributes
    ----------
    apart : float. Least distance along i, in extents of the classes.
    offset : float. Largest distance along j and k, in extents of the classes ...
    offset_share : float. ... or, if that is larger, as a share of the distance along i.
    ratio : float. Largest ratio of the volumes.
    extent_ratio : float. Largest ratio of the extents along an axis.
    """

    apart: float
    offset: float
    offset_share: float
    ratio: float
    extent_ratio: float


NAMED = Likeness(apart=1.0, offset=1.0, offset_share=0.35, ratio=2.0, extent_ratio=1.4)
UNNAMED = Likeness(apart=2.0, offset=0.5, offset_share=0.2, ratio=1.3, extent_ratio=1.3)
UNNAMED_CONTRAST = 0.5  # largest difference of the mean intensities, in standard deviations
UNNAMED_SUBJECTS = 3  # least number of subjects with both classes
UNNAMED_SHARE = 0.8  # least share of them among the subjects with either class
UNNAMED_MIDDLE = 0.1  # largest distance of the mid-plane from that of the volume, as a share of its width
ONE_SIDED = 0.1  # least distance of a class from the middle of the volume, as a share of its width


def measure_positions(
    id: str, label: np.ndarray, classes: int, spacing_mm: SpacingMm, image: np.ndarray | None = None
) -> ClassPositions:
    """Measure one label map.

    Parameters
    ----------
    id : str. Subject id.
    label : ndarray, integer, shape (i, j, k). Class indices; values of ``classes`` and above are not measured.
    classes : int. Number of classes, background included.
    spacing_mm : tuple of float. Voxel size along i, j, k.
    image : ndarray, shape (channel, i, j, k), optional.
    """
    step = math.ceil((label.size / MEASURED_VOXELS) ** (1 / 3)) if label.size > MEASURED_VOXELS else 1
    every = (slice(None, None, step),) * 3
    flat = np.ascontiguousarray(label[every]).reshape(-1)
    voxels = np.flatnonzero((flat > 0) & (flat < classes))
    found = flat[voxels]
    counts = np.bincount(found, minlength=classes)
    places = np.unravel_index(voxels, label[every].shape)
    size_mm = np.array(spacing_mm) * step
    means, deviations = zip(*(_moments(found, place, counts) for place in places), strict=True)
    values = [] if image is None else [channel[every].reshape(-1)[voxels].astype(np.float64) for channel in image]
    intensities = [_moments(found, value, counts) for value in values]
    empty = np.zeros((classes, 0))
    return ClassPositions(
        id,
        counts,
        np.stack(means, axis=1) * size_mm,
        # Voxels are boxes, not points: a class of one voxel has the extent of one.
        np.sqrt(np.stack(deviations, axis=1) ** 2 + 1 / 12) * size_mm,
        np.stack([mean for mean, _ in intensities], axis=1) if intensities else empty,
        np.stack([std for _, std in intensities], axis=1) if intensities else empty,
        max(label.shape[0] - 1, 1) * float(spacing_mm[0]),
    )


def are_mirror_images(subjects: Sequence[ClassPositions], a: int, b: int) -> bool | None:
    """Whether two classes lie side by side with about the same height, depth and volume; ``None`` if they never occur
    in the same subject.

    Kidneys, lungs and hippocampi do; the atria of the heart and the lobes of the liver do not.
    """
    both = _with_both(subjects, a, b)
    return _alike(both, a, b, NAMED) if both else None


def are_strict_mirror_images(subjects: Sequence[ClassPositions], a: int, b: int) -> bool:
    """Whether two classes lie as mirror images of each other by criteria that need no names.

    They lie on the same sides of the middle of the volume in nearly all subjects, with the same height, depth, volume,
    extent and intensity.
    """
    both = _with_both(subjects, a, b)
    either = sum(bool(s.voxels[a] or s.voxels[b]) for s in subjects)
    if len(both) < max(UNNAMED_SUBJECTS, UNNAMED_SHARE * either) or not _alike(both, a, b, UNNAMED):
        return False
    if abs(int(_sides(both, a, b).sum())) < UNNAMED_SHARE * len(both):
        return False
    middle = np.median([s.centre_mm[[a, b], 0].mean() / s.width_mm for s in both])
    contrast = [
        np.abs(s.intensity[a] - s.intensity[b]) / np.maximum(np.hypot(*s.intensity_std[[a, b]]) / math.sqrt(2), 1e-6)
        for s in both
    ]
    return bool(abs(middle - 0.5) <= UNNAMED_MIDDLE and np.all(np.median(contrast, axis=0) <= UNNAMED_CONTRAST))


def unnamed_mirror_images(subjects: Sequence[ClassPositions], candidates: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Pairs of classes that are strict mirror images of each other, the one with lower i first.

    A class is in one pair at most.
    """
    pairs: list[tuple[int, int]] = []
    for n, a in enumerate(candidates):
        for b in _roughly_opposite(subjects, a, candidates[n + 1 :]):
            if not any({a, b} & set(pair) for pair in pairs) and are_strict_mirror_images(subjects, a, b):
                signs = _sides(_with_both(subjects, a, b), a, b)
                pairs.append((a, b) if signs.sum() > 0 else (b, a))
    return tuple(pairs)


def reversed_subjects(subjects: Sequence[ClassPositions], left: int, right: int) -> tuple[str, ...]:
    """Ids of the subjects in which the left one of two classes lies to the right of the other one."""
    both = _with_both(subjects, left, right)
    return tuple(s.id for s, sign in zip(both, _sides(both, left, right), strict=True) if sign < 0)


def lies_on_side(subjects: Sequence[ClassPositions], index: int, side: Side) -> bool:
    """Whether a class lies clearly on one side of the middle of the volume in all subjects that have it, of which there
    are at least :data:`UNNAMED_SUBJECTS`."""
    sign = -1 if side == "left" else 1
    having = [s for s in subjects if s.voxels[index]]
    return len(having) >= UNNAMED_SUBJECTS and all(
        sign * (s.centre_mm[index, 0] - s.width_mm / 2) > max(ONE_SIDED * s.width_mm, s.extent_mm[index, 0])
        for s in having
    )


def _moments(found: np.ndarray, value: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a value by class, shape (class,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(found, value, len(counts)) / counts
        variance = np.bincount(found, (value - mean[found]) ** 2, len(counts)) / counts
    return mean, np.sqrt(variance)


def _with_both(subjects: Sequence[ClassPositions], a: int, b: int) -> list[ClassPositions]:
    return [s for s in subjects if s.voxels[a] and s.voxels[b]]


def _sides(both: Sequence[ClassPositions], a: int, b: int) -> np.ndarray:
    """Per subject 1 where ``b`` lies to the right of ``a``, -1 where to the left, 0 where neither is clear."""
    difference = np.array([s.centre_mm[b, 0] - s.centre_mm[a, 0] for s in both])
    extent = np.array([np.hypot(*s.extent_mm[[a, b], 0]) / math.sqrt(2) for s in both])
    return np.where(np.abs(difference) >= NAMED.apart * extent, np.sign(difference), 0)


def _alike(both: Sequence[ClassPositions], a: int, b: int, likeness: Likeness) -> bool:
    apart, *offsets = np.median([np.abs(s.centre_mm[b] - s.centre_mm[a]) for s in both], axis=0)
    extent = np.median([np.hypot(s.extent_mm[a], s.extent_mm[b]) / math.sqrt(2) for s in both], axis=0)
    ratio = np.median([max(s.voxels[[a, b]]) / min(s.voxels[[a, b]]) for s in both])
    extent_ratio = np.median([s.extent_mm[a] / s.extent_mm[b] for s in both], axis=0)
    return bool(
        apart >= likeness.apart * extent[0]
        and all(
            offset <= max(likeness.offset * size, likeness.offset_share * apart)
            for offset, size in zip(offsets, extent[1:], strict=True)
        )
        and ratio <= likeness.ratio
        and np.abs(np.log(extent_ratio)).max() <= math.log(likeness.extent_ratio)
    )


def _roughly_opposite(subjects: Sequence[ClassPositions], a: int, others: Sequence[int]) -> list[int]:
    """The classes that lie further from a class along i than along j and k, out of many at once."""
    if not subjects or not others:
        return []
    distance = np.abs(np.stack([s.centre_mm[list(others)] - s.centre_mm[a] for s in subjects]))  # (subject, other, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class that is absent everywhere
        median = np.nanmedian(distance, axis=0)
    return [b for b, (i, j, k) in zip(others, median, strict=True) if i > max(j, k)]
