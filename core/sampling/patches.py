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
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.compute.threads import single_threaded
from core.config import SamplingConfig
from core.imaging.content import present_channels
from core.imaging.normalise import to_float16
from core.labels import IGNORE_INDEX
from core.sampling.voxel_sets import VoxelSet, voxel_set
from core.types import Size3, TrainingSubject, VoxelIndex

Batch = tuple[Tensor, Tensor]  # image (batch, channel, i, j, k) and label (batch, i, j, k)

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

    def present(self, index: int) -> tuple[bool, ...]:
        """Of which channels a subject has an image: the others are 0 in every voxel."""

    def crop(self, locations: Sequence[PatchLocation], size: Size3) -> Batch:
        """Sub-volumes on the device: image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k)."""

    def close(self) -> None:
        """Release files."""


class ResidentSubjects:
    """Subjects that are kept on the training device: images in half precision, labels as uint8."""

    def __init__(self, subjects: Sequence[TrainingSubject], device: torch.device) -> None:
        self.ids = [s.id for s in subjects]
        self._present = [present_channels(s.image) for s in subjects]  # on the host: nothing waits for the device
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

    def present(self, index: int) -> tuple[bool, ...]:
        return self._present[index]

    def crop(self, locations: Sequence[PatchLocation], size: Size3) -> Batch:
        images = crop_patches(self.images, locations, size, torch.float32)
        return images, crop_patches(self.labels, locations, size, torch.uint8)

    def close(self) -> None:
        """No effect: there are no files."""


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
        self._labels = [s.label for s in subjects]
        self._classes = classes
        # Found when a subject is first drawn from.
        self._of_classes: dict[int, list[VoxelSet]] = {}
        self._labelled: dict[int, VoxelSet] = {}
        self._annotated: dict[int, VoxelSet | None] = {}

    def draw(self, count: int, generator: torch.Generator) -> list[PatchLocation]:
        """Draw ``count`` locations, with subjects in random order and each equally often."""
        order: list[int] = []
        while len(order) < count:
            order += torch.randperm(len(self.shapes), generator=generator).tolist()
        return [PatchLocation(subject, self._draw_start(subject, generator)) for subject in order[:count]]

    def _draw_start(self, subject: int, generator: torch.Generator) -> VoxelIndex:
        if self.config.foreground > 0 and _random_float(generator) < self.config.foreground:
            by_class = self._voxels_of_classes(subject)
            if by_class:
                voxels = by_class[_random_int(len(by_class), generator)]
                return self._start_around(subject, voxels[_random_int(len(voxels), generator)], generator)
        best, best_share = self._random_start(subject, generator), -1.0
        if not self.config.threshold > 0:
            return best
        if subject not in self._labelled:
            self._labelled[subject] = voxel_set(self._labels[subject], _is_labelled)
        for _ in range(MAX_TRIES):
            start = self._random_start(subject, generator)
            share = self._labelled[subject].share(start, self.size)
            if share > best_share:
                best, best_share = start, share
            if share >= self.config.threshold:
                break
        return best

    def _random_start(self, subject: int, generator: torch.Generator) -> VoxelIndex:
        """A uniform start; where voxels are ignored, one whose sub-volume has others too."""
        annotated = self._annotated_voxels(subject)
        start = self._uniform_start(subject, generator)
        if annotated is None:
            return start
        for _ in range(MAX_TRIES):
            if annotated.share(start, self.size) > 0:
                return start
            start = self._uniform_start(subject, generator)
        return self._start_around(subject, annotated[_random_int(len(annotated), generator)], generator)

    def _voxels_of_classes(self, subject: int) -> list[VoxelSet]:
        """Voxels of each foreground class that is present."""
        if subject not in self._of_classes:
            label = self._labels[subject]
            sets = [voxel_set(label, partial(np.equal, c)) for c in range(1, self._classes)]
            self._of_classes[subject] = [voxels for voxels in sets if len(voxels)]
        return self._of_classes[subject]

    def _annotated_voxels(self, subject: int) -> VoxelSet | None:
        """Voxels that are not ignored; ``None`` for a label map in which no voxel, or every voxel, is ignored."""
        if subject not in self._annotated:
            voxels = voxel_set(self._labels[subject], partial(np.not_equal, IGNORE_INDEX))
            self._annotated[subject] = None if voxels.is_all or not len(voxels) else voxels
        return self._annotated[subject]

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


def _is_labelled(label: np.ndarray) -> np.ndarray:
    """Voxels of a foreground class."""
    return np.asarray((label > 0) & (label != IGNORE_INDEX))


def _random_int(upper: int, generator: torch.Generator) -> int:
    """Uniform in 0 ... upper - 1."""
    return int(torch.randint(upper, (1,), generator=generator))


def _random_float(generator: torch.Generator) -> float:
    """Uniform in 0 ... 1."""
    return float(torch.rand((), generator=generator))
