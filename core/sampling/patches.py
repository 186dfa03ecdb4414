"""Draws sub-volumes from subjects that live on the training device.

A :class:`Place` says where a sub-volume lies; places are drawn on the CPU from a seeded generator (a few numbers, no
device synchronisation), the voxels are cut on the device. What lies outside a subject is 0, in image and label alike:
the value of air and of the mean after the normalisations, and the background class.
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
from core.types import Size3, TrainingSubject, VoxelIndex

Batch = tuple[Tensor, Tensor]  # image (batch, channel, i, j, k) and label (batch, i, j, k)

MAX_VOXELS_REMEMBERED = 50_000  # per class and subject; enough for an even choice of centres
MAX_TRIES = 50  # at a sub-volume with enough labelled voxels


@dataclass(frozen=True)
class Place:
    """Where a sub-volume lies: index of the subject and the first voxel, which may be negative (padding)."""

    subject: int
    start: VoxelIndex


class Subjects(Protocol):
    """Subjects that sub-volumes can be cut from: on the training device, or streamed to it."""

    ids: list[str]
    device: torch.device

    def __len__(self) -> int: ...

    @property
    def channels(self) -> int:
        """Of an image."""

    @property
    def nbytes(self) -> int:
        """Bytes that images and labels take on the device for good."""

    def image(self, index: int) -> Tensor:
        """A whole image on the device, float32 (channel, i, j, k)."""

    def label(self, index: int) -> Tensor:
        """A whole label map on the device, uint8 (i, j, k)."""

    def crop(self, places: Sequence[Place], size: Size3) -> tuple[Tensor, Tensor]:
        """Cut sub-volumes: image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k), on the device."""

    def close(self) -> None:
        """Let go of what is held on disk."""


class DeviceSubjects:
    """Subjects that live on the training device: images in half precision, labels as uint8."""

    def __init__(self, subjects: Sequence[TrainingSubject], device: torch.device) -> None:
        self.ids = [s.id for s in subjects]
        self.images = [torch.from_numpy(half(s.image)).to(device) for s in subjects]
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

    def crop(self, places: Sequence[Place], size: Size3) -> tuple[Tensor, Tensor]:
        return boxes(self.images, places, size, torch.float32), boxes(self.labels, places, size, torch.uint8)

    def close(self) -> None:
        """Nothing is held on disk."""


class PatchSampler:
    """Draws places: uniformly, centred on a class, or with a least labelled share, as the configuration says."""

    def __init__(self, subjects: Sequence[TrainingSubject], size: Size3, config: SamplingConfig, classes: int) -> None:
        self.size = size
        self.config = config
        self.shapes = [s.label.shape for s in subjects]
        self._voxels = [_voxels_by_class(s.label, classes) for s in subjects] if config.foreground > 0 else []
        self._integrals = [_integral(s.label > 0) for s in subjects] if config.threshold > 0 else []

    def draw(self, count: int, generator: torch.Generator) -> list[Place]:
        """Draw ``count`` places, subjects in random order so that each is used equally often."""
        order: list[int] = []
        while len(order) < count:
            order += torch.randperm(len(self.shapes), generator=generator).tolist()
        return [self._draw_one(subject, generator) for subject in order[:count]]

    def _draw_one(self, subject: int, generator: torch.Generator) -> Place:
        if self._voxels and _uniform(generator) < self.config.foreground:
            present = self._voxels[subject]
            if present:
                voxels = present[_integer(len(present), generator)]
                return Place(subject, self._around(subject, voxels[_integer(len(voxels), generator)], generator))
        best, best_share = self._anywhere(subject, generator), -1.0
        if not self._integrals:
            return Place(subject, best)
        for _ in range(MAX_TRIES):
            start = self._anywhere(subject, generator)
            share = _labelled_share(self._integrals[subject], start, self.size)
            if share > best_share:
                best, best_share = start, share
            if share >= self.config.threshold:
                break
        return Place(subject, best)

    def _anywhere(self, subject: int, generator: torch.Generator) -> VoxelIndex:
        i, j, k = (
            _integer(n - s + 1, generator) if n >= s else -_integer(s - n + 1, generator)
            for n, s in zip(self.shapes[subject], self.size, strict=True)
        )
        return i, j, k

    def _around(self, subject: int, voxel: np.ndarray, generator: torch.Generator) -> VoxelIndex:
        starts = []
        for centre, n, s in zip(voxel.tolist(), self.shapes[subject], self.size, strict=True):
            if n < s:
                starts.append(-_integer(s - n + 1, generator))
            else:
                starts.append(min(max(centre - s // 2, 0), n - s))
        return starts[0], starts[1], starts[2]


def half(image: np.ndarray) -> np.ndarray:
    """An image as float16; what lies beyond its range becomes its largest value."""
    if image.dtype == np.float16:
        return np.ascontiguousarray(image)
    most = float(np.finfo(np.float16).max)
    return np.clip(image, -most, most).astype(np.float16)


def cut(volume: Tensor, start: VoxelIndex, size: Size3) -> Tensor:
    """The box at ``start`` of the last three axes, zero outside; a new tensor."""
    box = volume.new_empty(*volume.shape[:-3], *size)
    _fill(box, volume, start)
    return box


def boxes(
    volumes: Sequence[Tensor],
    places: Sequence[Place],
    size: Size3,
    dtype: torch.dtype,
    pinned: bool = False,
) -> Tensor:
    """Boxes of volumes (..., I, J, K), zero outside, as one new tensor (batch, ..., i, j, k) where the volumes are.

    Parameters
    ----------
    pinned : whether the result is to lie in pinned memory, from which it goes to a GPU while nobody waits.
    """
    of = volumes[places[0].subject]
    batch = torch.empty(len(places), *of.shape[:-3], *size, dtype=dtype, device=of.device, pin_memory=pinned)
    with single_threaded():
        for box, place in zip(batch, places, strict=True):
            _fill(box, volumes[place.subject], place.start)
    return batch


def _fill(box: Tensor, volume: Tensor, start: VoxelIndex) -> None:
    lows = [min(max(first, 0), n) for first, n in zip(start, volume.shape[-3:], strict=True)]
    highs = [min(max(s + d, 0), n) for s, d, n in zip(start, box.shape[-3:], volume.shape[-3:], strict=True)]
    if any(high - low < d for low, high, d in zip(lows, highs, box.shape[-3:], strict=True)):
        box.zero_()
    i, j, k = (slice(low, high) for low, high in zip(lows, highs, strict=True))
    x, y, z = (slice(low - s, high - s) for low, high, s in zip(lows, highs, start, strict=True))
    box[..., x, y, z] = volume[..., i, j, k]


def _voxels_by_class(label: np.ndarray, classes: int) -> list[np.ndarray]:
    """For each foreground class present: some of its voxels, evenly strided, int16, shape (n, 3)."""
    found = []
    for c in range(1, classes):
        flat = np.flatnonzero(label == c)
        if flat.size:
            flat = flat[:: max(1, flat.size // MAX_VOXELS_REMEMBERED)]
            found.append(np.stack(np.unravel_index(flat, label.shape), axis=1).astype(np.int16))
    return found


def _integral(mask: np.ndarray) -> np.ndarray:
    """Summed-volume table with a leading zero plane on each axis, int32 (Crow 1984, in 3D)."""
    table = np.zeros([n + 1 for n in mask.shape], np.int32)
    table[1:, 1:, 1:] = mask.astype(np.int32).cumsum(0).cumsum(1).cumsum(2)
    return table


def _labelled_share(table: np.ndarray, start: VoxelIndex, size: Size3) -> float:
    low = [min(max(s, 0), n - 1) for s, n in zip(start, table.shape, strict=True)]
    high = [min(max(s + d, 0), n - 1) for s, d, n in zip(start, size, table.shape, strict=True)]
    total = 0
    for corner in range(8):
        at = tuple(high[a] if corner >> a & 1 else low[a] for a in range(3))
        total += int(table[at]) * (1 if bin(corner).count("1") % 2 else -1)
    return total / float(np.prod(size))


def _integer(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (1,), generator=generator))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
