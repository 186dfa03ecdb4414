"""Draws the locations of sub-volumes, and crops sub-volumes from subjects on the training device.

Locations (:class:`PatchLocation`) are drawn on the CPU from a seeded generator, without device synchronisation; voxels
are cropped on the device. Voxels outside a subject are 0 in image and label: the value of air, the mean after
normalisation, and the background class.

Voxels with the ignore label are not labelled: they are no centre of a sub-volume and no part of its labelled share, and
no sub-volume consists of them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.compute.threads import single_threaded
from core.config import SamplingConfig
from core.labels import IGNORE_INDEX
from core.types import Size3, TrainingSubject, VoxelIndex

Batch = tuple[Tensor, Tensor]  # image (batch, channel, i, j, k) and label (batch, i, j, k)

MAX_CENTRES = 50_000  # voxels per class and subject from which the centre of a sub-volume is chosen
MAX_TRIES = 50  # draws of a sub-volume with enough labelled voxels


@dataclass(frozen=True)
class PatchLocation:
    """Location of a sub-volume.

    Attributes
    ----------
    subject : int. Index of the subject.
    start : tuple of int. First voxel (i, j, k); negative where the sub-volume begins in the padding.
    """

    subject: int
    start: VoxelIndex


class Subjects(Protocol):
    """Subjects from which sub-volumes are cropped: on the training device, or streamed to it."""

    ids: list[str]
    device: torch.device

    def __len__(self) -> int: ...

    @property
    def channels(self) -> int:
        """Channels of an image."""

    @property
    def nbytes(self) -> int:
        """Bytes that images and labels occupy on the device permanently."""

    def image(self, index: int) -> Tensor:
        """A whole image on the device, float32, shape (channel, i, j, k)."""

    def label(self, index: int) -> Tensor:
        """A whole label map on the device, uint8, shape (i, j, k)."""

    def crop(self, locations: Sequence[PatchLocation], size: Size3) -> Batch:
        """Sub-volumes on the device: image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k)."""

    def close(self) -> None:
        """Release files."""


class ResidentSubjects:
    """Subjects that are kept on the training device: images in half precision, labels as uint8."""

    def __init__(self, subjects: Sequence[TrainingSubject], device: torch.device) -> None:
        self.ids = [s.id for s in subjects]
        self.images = [torch.from_numpy(to_float16(s.image)).to(device) for s in subjects]
        self.labels = [torch.from_numpy(np.ascontiguousarray(s.label)).to(device) for s in subjects]
        self.device = device

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def channels(self) -> int:
        return self.images[0].shape[0] if self.images else 0

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.images, *self.labels))

    def image(self, index: int) -> Tensor:
        return self.images[index].float()

    def label(self, index: int) -> Tensor:
        return self.labels[index]

    def crop(self, locations: Sequence[PatchLocation], size: Size3) -> Batch:
        images = crop_patches(self.images, locations, size, torch.float32)
        return images, crop_patches(self.labels, locations, size, torch.uint8)

    def close(self) -> None:
        """No effect: there are no files."""


@dataclass(frozen=True, eq=False)
class _Annotation:
    """Voxels of a subject that are not ignored.

    Attributes
    ----------
    table : ndarray, int32. Their summed-volume table.
    voxels : ndarray, int16, shape (n, 3). Evenly strided ones of them.
    """

    table: np.ndarray
    voxels: np.ndarray

    @classmethod
    def of(cls, label: np.ndarray) -> _Annotation | None:
        """``None`` for a label map in which no voxel, or every voxel, is ignored."""
        counted = label != IGNORE_INDEX
        if counted.all() or not counted.any():
            return None
        return cls(_summed_volume_table(counted), _strided_voxels(counted))


class PatchSampler:
    """Draws locations of sub-volumes: anywhere, centred on a class, or with a least labelled share, as configured.

    Parameters
    ----------
    subjects : sequence of TrainingSubject
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    config : SamplingConfig. ``foreground`` and ``threshold`` are used.
    classes : int. Number of classes, the background included.
    """

    def __init__(self, subjects: Sequence[TrainingSubject], size: Size3, config: SamplingConfig, classes: int) -> None:
        self.size = size
        self.config = config
        self.shapes = [s.label.shape for s in subjects]
        self._centres = [_centres_by_class(s.label, classes) for s in subjects] if config.foreground > 0 else []
        labelled = [_is_labelled(s.label) for s in subjects] if config.threshold > 0 else []
        self._tables = [_summed_volume_table(mask) for mask in labelled]
        self._annotations = [_Annotation.of(s.label) for s in subjects]

    def draw(self, count: int, generator: torch.Generator) -> list[PatchLocation]:
        """Draw ``count`` locations, with subjects in random order and each equally often."""
        order: list[int] = []
        while len(order) < count:
            order += torch.randperm(len(self.shapes), generator=generator).tolist()
        return [PatchLocation(subject, self._draw_start(subject, generator)) for subject in order[:count]]

    def _draw_start(self, subject: int, generator: torch.Generator) -> VoxelIndex:
        if self._centres and _random_float(generator) < self.config.foreground:
            by_class = self._centres[subject]
            if by_class:
                voxels = by_class[_random_int(len(by_class), generator)]
                return self._start_around(subject, voxels[_random_int(len(voxels), generator)], generator)
        best, best_share = self._random_start(subject, generator), -1.0
        if not self._tables:
            return best
        for _ in range(MAX_TRIES):
            start = self._random_start(subject, generator)
            share = _labelled_share(self._tables[subject], start, self.size)
            if share > best_share:
                best, best_share = start, share
            if share >= self.config.threshold:
                break
        return best

    def _random_start(self, subject: int, generator: torch.Generator) -> VoxelIndex:
        """A uniform start; where voxels are ignored, one whose sub-volume has others too."""
        annotation = self._annotations[subject]
        start = self._uniform_start(subject, generator)
        if annotation is None:
            return start
        for _ in range(MAX_TRIES):
            if _labelled_share(annotation.table, start, self.size) > 0:
                return start
            start = self._uniform_start(subject, generator)
        voxels = annotation.voxels
        return self._start_around(subject, voxels[_random_int(len(voxels), generator)], generator)

    def _uniform_start(self, subject: int, generator: torch.Generator) -> VoxelIndex:
        i, j, k = (
            _random_int(n - s + 1, generator) if n >= s else -_random_int(s - n + 1, generator)
            for n, s in zip(self.shapes[subject], self.size, strict=True)
        )
        return i, j, k

    def _start_around(self, subject: int, centre: np.ndarray, generator: torch.Generator) -> VoxelIndex:
        """The start of a sub-volume around a voxel, shifted inside the subject; random where the subject is smaller."""
        starts = []
        for voxel, n, s in zip(centre.tolist(), self.shapes[subject], self.size, strict=True):
            if n < s:
                starts.append(-_random_int(s - n + 1, generator))
            else:
                starts.append(min(max(voxel - s // 2, 0), n - s))
        return starts[0], starts[1], starts[2]


def to_float16(image: np.ndarray) -> np.ndarray:
    """An image as contiguous float16; values beyond its range are clipped."""
    if image.dtype == np.float16:
        return np.ascontiguousarray(image)
    limit = float(np.finfo(np.float16).max)
    return np.clip(image, -limit, limit).astype(np.float16)


def crop_volume(volume: Tensor, start: VoxelIndex, size: Size3) -> Tensor:
    """A new tensor (..., i, j, k) with the sub-volume at ``start`` of a volume (..., I, J, K), zero outside."""
    patch = volume.new_empty(*volume.shape[:-3], *size)
    _copy_patch(patch, volume, start)
    return patch


def crop_patches(
    volumes: Sequence[Tensor],
    locations: Sequence[PatchLocation],
    size: Size3,
    dtype: torch.dtype,
    pin_memory: bool = False,
) -> Tensor:
    """A new tensor (batch, ..., i, j, k) with sub-volumes of volumes (..., I, J, K), zero outside, on their device.

    Parameters
    ----------
    volumes : sequence of Tensor. All volumes, by index of the subject.
    locations : sequence of PatchLocation, not empty.
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    dtype : torch.dtype. Of the result.
    pin_memory : bool. Whether the result is in pinned memory, for asynchronous copies to a GPU.
    """
    first = volumes[locations[0].subject]
    batch = torch.empty(
        len(locations), *first.shape[:-3], *size, dtype=dtype, device=first.device, pin_memory=pin_memory
    )
    with single_threaded():
        for patch, location in zip(batch, locations, strict=True):
            _copy_patch(patch, volumes[location.subject], location.start)
    return batch


def _copy_patch(patch: Tensor, volume: Tensor, start: VoxelIndex) -> None:
    lows = [min(max(first, 0), n) for first, n in zip(start, volume.shape[-3:], strict=True)]
    highs = [min(max(s + d, 0), n) for s, d, n in zip(start, patch.shape[-3:], volume.shape[-3:], strict=True)]
    if any(high - low < d for low, high, d in zip(lows, highs, patch.shape[-3:], strict=True)):
        patch.zero_()
    i, j, k = (slice(low, high) for low, high in zip(lows, highs, strict=True))
    x, y, z = (slice(low - s, high - s) for low, high, s in zip(lows, highs, start, strict=True))
    patch[..., x, y, z] = volume[..., i, j, k]


def _centres_by_class(label: np.ndarray, classes: int) -> list[np.ndarray]:
    """Evenly strided voxels of each foreground class that is present, int16, shape (n, 3)."""
    centres = []
    for c in range(1, classes):
        voxels = _strided_voxels(label == c)
        if len(voxels):
            centres.append(voxels)
    return centres


def _strided_voxels(mask: np.ndarray) -> np.ndarray:
    """Evenly strided voxels of a mask, int16, shape (n, 3)."""
    flat = np.flatnonzero(mask)
    flat = flat[:: max(1, flat.size // MAX_CENTRES)]
    return np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.int16)


def _is_labelled(label: np.ndarray) -> np.ndarray:
    """Voxels of a foreground class."""
    return np.asarray((label > 0) & (label != IGNORE_INDEX))


def _summed_volume_table(mask: np.ndarray) -> np.ndarray:
    """Summed-volume table (Crow 1984, in 3D) with a leading zero plane on each axis, int32."""
    table = np.zeros([n + 1 for n in mask.shape], np.int32)
    table[1:, 1:, 1:] = mask.astype(np.int32).cumsum(0).cumsum(1).cumsum(2)
    return table


def _labelled_share(table: np.ndarray, start: VoxelIndex, size: Size3) -> float:
    """Share of labelled voxels in a sub-volume, from the summed-volume table; the padding is not labelled."""
    low = [min(max(s, 0), n - 1) for s, n in zip(start, table.shape, strict=True)]
    high = [min(max(s + d, 0), n - 1) for s, d, n in zip(start, size, table.shape, strict=True)]
    total = 0
    for corner in range(8):
        index = tuple(high[axis] if corner >> axis & 1 else low[axis] for axis in range(3))
        total += int(table[index]) * (1 if bin(corner).count("1") % 2 else -1)
    return total / float(np.prod(size))


def _random_int(upper: int, generator: torch.Generator) -> int:
    """Uniform in 0 ... upper - 1."""
    return int(torch.randint(upper, (1,), generator=generator))


def _random_float(generator: torch.Generator) -> float:
    """Uniform in 0 ... 1."""
    return float(torch.rand((), generator=generator))
