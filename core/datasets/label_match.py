"""Whether label maps belong to their images, by how well edges of labels and images agree.

Agreement of a label map with an image: the mean step of intensity across the faces between voxels of different classes,
divided by that across the same faces moved by :data:`SHIFT` voxels to either side; the mean step of the image is added
to both. It is about 1 for a label map of another image, and above 1 where boundaries lie on edges; it does not depend
on the scale of intensities.

The logarithms of the agreements of label maps with the images of other subjects, less the medians of each image and of
each label map, are the noise in which a label map that fits another image better than its own has to stand out. Images
are averaged down to at most :data:`MAX_SIDE` voxels along each axis, and each subject is compared with the
:data:`WINDOW` before it, so that memory and time stay small for any data set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.datasets.findings import Finding
from core.datasets.label_files import MAX_SINGLE_FINDINGS, MEANING
from core.datasets.layouts.base import Subject
from core.formatting import format_list
from core.labels import IGNORE_INDEX

MAX_SIDE = 64  # voxels along an axis of the compared images
MAX_FACES, MIN_FACES = 8000, 50  # of a label map that is compared
SHIFT = 2  # voxels from a face to those it is compared with
WINDOW = 12  # subjects before a subject that it is compared with
MIN_SUBJECTS = 4  # from which on the noise of the agreements is known
LEAST_NOISE = 0.02  # of logarithms of agreements
TYPICAL_GAP, SINGLE_GAP = 2.0, 6.0  # in units of the noise: of most subjects, and of a single one
LARGE_DIFFERENCE = 0.3  # of logarithms of agreements
CLEAR_EDGES = 6.0  # median of the subjects, in units of the noise, from which on one without agreement is an outlier
FIX = "look at its picture: do labels and anatomy match?"


def coarse_image(image: np.ndarray) -> np.ndarray:
    """An image of shape (i, j, k), averaged down to at most :data:`MAX_SIDE` voxels along each axis and smoothed by
    (1, 2, 1) / 4; float32. Incomplete blocks of voxels at the end of an axis are left out."""
    for axis in range(3):
        stride = _stride(image.shape[axis])
        count = image.shape[axis] // stride
        blocks = [image.take(np.arange(n, count * stride, stride), axis).astype(np.float32) for n in range(stride)]
        image = np.sum(blocks, axis=0) / stride
        before, after = np.maximum(np.arange(count) - 1, 0), np.minimum(np.arange(count) + 1, count - 1)
        image = (image.take(before, axis) + 2 * image + image.take(after, axis)) / 4
    return image


class LabelMatch:
    """Compares label maps with the images of all subjects, which are added one by one."""

    def __init__(self) -> None:
        self._recent: deque[_Subject] = deque(maxlen=WINDOW)
        self._files: dict[str, str] = {}
        self._logs: dict[tuple[str, str], float] = {}  # logarithm of the agreement by subject of image and of label map

    def add(self, subject: Subject, images: Sequence[np.ndarray], label: np.ndarray) -> None:
        """Add a subject; one with hardly any labels is left out.

        Parameters
        ----------
        subject : Subject. The subject.
        images : sequence of ndarray, shape (i, j, k). Each modality, from :func:`coarse_image`.
        label : ndarray, uint8, shape (i, j, k). Class indices.
        """
        added = _Subject.of(subject.id, images, label)
        if len(added.starts) < MIN_FACES:
            return
        self._files[added.id] = str(subject.label)
        self._logs[added.id, added.id] = added.log_agreement_with(added)
        for other in self._recent:
            self._logs[added.id, other.id] = other.log_agreement_with(added)
            self._logs[other.id, added.id] = added.log_agreement_with(other)
        self._recent.append(added)

    def findings(self) -> list[Finding]:
        """Warnings for subjects whose image fits the label map of another subject clearly better than its own, and for
        those whose label map fits its image much worse than those of the other subjects do."""
        ids = list(self._files)
        if len(ids) < 2:
            return []
        scores, unit = self._scores()
        own = {id: scores[id, id] for id in ids if (id, id) in scores}
        better = _better_labels(scores, own)
        gaps = np.array([better[id][0] if id in better else -np.inf for id in ids])
        everywhere = len(ids) >= MIN_SUBJECTS and np.median(gaps) >= TYPICAL_GAP
        # Among two or three subjects the noise is hardly known: the difference itself has to be large.
        least = SINGLE_GAP if len(ids) >= MIN_SUBJECTS else LARGE_DIFFERENCE / unit
        found = {id: label for id, (gap, label) in better.items() if gap >= (TYPICAL_GAP if everywhere else least)}
        return _swap_findings(found, self._files, len(ids)) + self._outliers(own, set(found))

    def _scores(self) -> tuple[dict[tuple[str, str], float], float]:
        """Agreements by image and label map, less the medians of either, in units of the noise; and the unit."""
        values = {pair: value for pair, value in self._logs.items() if not np.isnan(value)}
        for axis in (0, 1):
            groups: dict[str, list[float]] = {}
            for pair, value in values.items():
                groups.setdefault(pair[axis], []).append(value)
            medians = {id: float(np.median(group)) for id, group in groups.items()}
            values = {pair: value - medians[pair[axis]] for pair, value in values.items()}
        others = np.array([value for (image, label), value in values.items() if image != label])
        centre = float(np.median(others)) if len(others) else 0.0
        spread = 1.4826 * float(np.median(np.abs(others - centre))) if len(others) else 0.0
        unit = max(spread, LEAST_NOISE)
        return {pair: (value - centre) / unit for pair, value in values.items()}, unit

    def _outliers(self, own: dict[str, float], known: set[str]) -> list[Finding]:
        if len(own) < MIN_SUBJECTS:
            return []
        scores = np.array(list(own.values()))
        centre = float(np.median(scores))
        spread = 1.4826 * float(np.median(np.abs(scores - centre)))
        if centre < CLEAR_EDGES:
            return []
        agreements = {id: float(np.exp(self._logs[id, id])) for id in own}
        typical = float(np.median(list(agreements.values())))
        return [
            Finding(
                "warning",
                f"edges of image and labels agree no better than with a label map of another subject: agreement "
                f"{agreements[id]:.2f}, in most other subjects {typical:.2f}",
                id,
                self._files[id],
                FIX,
                meaning=MEANING,
            )
            for id, score in own.items()
            if id not in known and score < 1 and score < centre - 4 * spread
        ]


def _better_labels(scores: dict[tuple[str, str], float], own: dict[str, float]) -> dict[str, tuple[float, str]]:
    """For each image the label map of another subject that fits it best, and by how much better than its own one, and
    than that label map fits its own image."""
    better: dict[str, tuple[float, str]] = {}
    for (image, label), score in scores.items():
        if image != label and image in own and label in own:
            gap = score - max(own[image], own[label])
            better[image] = max(better.get(image, (-np.inf, "")), (gap, label))
    return better


def _swap_findings(found: dict[str, str], files: dict[str, str], subjects: int) -> list[Finding]:
    """Warnings for images that the label map of another subject fits better; one warning where they are many."""
    if len(found) <= MAX_SINGLE_FINDINGS:
        message = "edges of its image agree clearly better with the label map of {} than with its own"
        return [
            Finding("warning", message.format(label), id, files[id], FIX, meaning=MEANING)
            for id, label in found.items()
        ]
    pairs = format_list([f"{label} for {image}" for image, label in found.items()], 4)
    message = (
        f"edges of {len(found)} of {subjects} images agree clearly better with label maps of other subjects: {pairs}"
    )
    fix = "are images and label maps listed, or named, in the same order?"
    return [Finding("warning", message, fix=fix, meaning=MEANING)]


@dataclass(frozen=True)
class _Subject:
    """Images and boundary of a subject on a coarse grid.

    Attributes
    ----------
    images : ndarray, float32, shape (modality, i, j, k). Smoothed.
    starts : ndarray, int32, shape (face, 3). Voxel before each face.
    axes : ndarray, int8, shape (face,). Axis of each face.
    typical_steps : tuple of float. Mean step of intensity between neighbours, by modality.
    """

    id: str
    images: np.ndarray
    starts: np.ndarray
    axes: np.ndarray
    typical_steps: tuple[float, ...]

    @classmethod
    def of(cls, id: str, images: Sequence[np.ndarray], label: np.ndarray) -> _Subject:
        strides = [_stride(n) for n in label.shape]
        middles = tuple(
            slice(s // 2, s // 2 + (n // s - 1) * s + 1, s) for s, n in zip(strides, label.shape, strict=True)
        )
        steps = tuple(max(_mean_difference(image), 1e-30) for image in images)
        return cls(id, np.stack(images), *_faces(label[middles]), steps)

    def log_agreement_with(self, other: _Subject) -> float:
        """Logarithm of the agreement of this label map with the images of another subject, the mean over modalities;
        NaN where less than half of the boundary lies in the image. Grids of different sizes are placed upon each other
        in three ways, of which the best counts."""
        shape = other.images.shape[1:]
        if self.images.shape[1:] == shape:
            return self._log_agreement(other, self.starts)
        moved = (_moved(self.starts, self.images.shape[1:], shape, how) for how in ALIGNMENTS)
        return float(np.fmax.reduce([self._log_agreement(other, starts) for starts in moved]))

    def _log_agreement(self, other: _Subject, starts: np.ndarray) -> float:
        last = np.array(other.images.shape[1:]) - 1
        along = np.eye(3, dtype=starts.dtype)[self.axes]
        inside = ((starts >= 0) & (starts < last)).all(axis=1)
        if inside.sum() < max(MIN_FACES, 0.5 * len(starts)):
            return np.nan
        starts, along = starts[inside], along[inside]
        logs = []
        for image, typical in zip(other.images, other.typical_steps, strict=True):
            at, before, after = (_mean_step(image, starts + k * along, along, last) for k in (0, -SHIFT, SHIFT))
            # A typical step is added so that ratios of small steps, in flat parts of an image, do not vary much.
            logs.append(np.log((at + typical) / ((before + after) / 2 + typical)))
        return float(np.mean(logs))


def _mean_difference(image: np.ndarray) -> float:
    """Mean absolute difference of neighbours along the first axis; 0 where there are none."""
    differences = np.abs(np.diff(image, axis=0))
    return float(differences.mean()) if differences.size else 0.0


ALIGNMENTS = ("corner", "centre", "scaled")


def _moved(starts: np.ndarray, own: tuple[int, ...], shape: tuple[int, ...], how: str) -> np.ndarray:
    """Voxels of a grid in another one of a different size."""
    if how == "scaled":
        return np.floor((starts + 0.5) * (np.array(shape) / np.array(own))).astype(np.int32)
    shift = (np.array(shape) - np.array(own)) // 2 if how == "centre" else 0
    return starts + np.asarray(shift, np.int32)


def _faces(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxel before each face between different classes, and axis of the face; at most :data:`MAX_FACES` of them."""
    starts, axes = [], []
    for axis in range(3):
        low = label.take(np.arange(label.shape[axis] - 1), axis)
        high = label.take(np.arange(1, label.shape[axis]), axis)
        where = np.nonzero((low != high) & (low != IGNORE_INDEX) & (high != IGNORE_INDEX))
        starts.append(np.stack(where, axis=1).astype(np.int32))
        axes.append(np.full(len(where[0]), axis, np.int8))
    start, axis_of = np.concatenate(starts), np.concatenate(axes)
    if len(start) > MAX_FACES:  # at random, because every second one would lie in every second slice
        chosen = np.random.default_rng(0).choice(len(start), MAX_FACES, replace=False)
        start, axis_of = start[chosen], axis_of[chosen]
    return start, axis_of


def _mean_step(image: np.ndarray, starts: np.ndarray, along: np.ndarray, last: np.ndarray) -> float:
    """Mean absolute step of intensity from voxels to their next ones; those beyond the image are its outermost ones."""
    low, high = (np.clip(voxels, 0, last) for voxels in (starts, starts + along))
    return float(np.abs(image[tuple(high.T)] - image[tuple(low.T)]).mean())


def _stride(size: int) -> int:
    """Voxels along an axis that become one of a coarse image."""
    return -(-size // MAX_SIDE)
