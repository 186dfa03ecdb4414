"""Random spatial and intensity augmentation of a batch of sub-volumes, on the training device.

All random parameters are drawn on the CPU from the generator that is passed in (:meth:`Augmenter.draw`), so there is no
device synchronisation, and regions can be cropped ahead of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.augmentation.batched import apply_intensity_batched, apply_warp_batched
from core.augmentation.intensity import IntensityChange, apply_intensity, draw_intensity
from core.augmentation.sides import SideSwap
from core.augmentation.warp import Warp, apply_warp, draw_warp, flip
from core.compute.threads import single_threaded
from core.config import AugmentConfig
from core.sampling.patches import Batch, PatchLocation, Subjects
from core.types import Size3, triple

AUGMENTED_ON_CPU = ("mps",)  # devices without all operators of the batched form, nor float64


@dataclass(frozen=True)
class AugmentationParams:
    """The random parameters of a batch.

    Attributes
    ----------
    locations : list of PatchLocation. Regions to crop for the batch.
    region : tuple of int. Size of a region in voxels (i, j, k).
    warp : Warp or None. Spatial transform from the region to the sub-volume.
    flips : list of bool. Which sub-volumes are mirrored left-right.
    intensity : list of IntensityChange. One per sub-volume and channel, channels changing fastest.
    kept : list of list of bool, optional. Which channels of each sub-volume are kept, the others being 0: left out, or
        of a modality that the subject has no image of; ``None`` where all are kept.
    """

    locations: list[PatchLocation]
    region: Size3
    warp: Warp | None
    flips: list[bool]
    intensity: list[IntensityChange]
    kept: list[list[bool]] | None = None

    @property
    def changes_intensity(self) -> bool:
        """Whether the intensities of any channel change."""
        return not all(change.is_identity for change in self.intensity)

    def of_present(self, subjects: Subjects) -> AugmentationParams:
        """The parameters without the channels of which a subject has no image; where nothing of what it has would be
        left, all of that is kept."""
        present = [subjects.present(location.subject) for location in self.locations]
        if all(map(all, present)):
            return self
        kept = []
        for has, drawn in zip(present, self.kept or present, strict=True):
            left = [a and b for a, b in zip(has, drawn, strict=True)]
            kept.append(left if any(left) else list(has))
        return replace(self, kept=kept)


class Augmenter:
    """Crops sub-volumes from subjects and augments them.

    Parameters
    ----------
    config : AugmentConfig. Probabilities and magnitudes.
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    swapped : sequence of (int, int). Pairs of classes whose labels are exchanged in mirrored sub-volumes.
    """

    def __init__(self, config: AugmentConfig, size: Size3, swapped: Sequence[tuple[int, int]] = ()) -> None:
        self.config = config
        self.size = size
        self._swap_sides = SideSwap(swapped)

    def __call__(self, subjects: Subjects, locations: list[PatchLocation], generator: torch.Generator) -> Batch:
        """Augmented sub-volumes: image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k)."""
        params = self.draw_for(subjects, locations, generator)
        return self.apply(*subjects.crop(params.locations, params.region), params)

    def draw_for(
        self, subjects: Subjects, locations: list[PatchLocation], generator: torch.Generator
    ) -> AugmentationParams:
        """Draw the random parameters for sub-volumes of subjects, which may lack the image of a modality."""
        return self.draw(locations, subjects.channels, generator).of_present(subjects)

    def draw(self, locations: list[PatchLocation], channels: int, generator: torch.Generator) -> AugmentationParams:
        """Draw the random parameters for sub-volumes at these locations."""
        with single_threaded():
            return self._draw(locations, channels, generator)

    def apply(self, image: Tensor, label: Tensor, params: AugmentationParams) -> Batch:
        """Augment the cropped regions, on the device where they are, or for an Apple GPU on the CPU.

        Parameters
        ----------
        image : Tensor, float32, shape (batch, channel, *params.region). Not written to.
        label : Tensor, uint8, shape (batch, *params.region). Not written to.
        params : AugmentationParams

        Returns
        -------
        image : Tensor, float32, shape (batch, channel, i, j, k)
        label : Tensor, uint8, shape (batch, i, j, k)
        """
        augmented, label = self._augment(image, label, params)
        if params.kept is None:
            return augmented, label
        # An image that a subject lacks is 0 in every voxel, and stays so, as one that is left out: noise would hide it.
        kept = torch.tensor(params.kept, device=image.device) & (image != 0).flatten(2).any(dim=2)
        return torch.where(kept[..., None, None, None], augmented, 0.0), label

    def _augment(self, image: Tensor, label: Tensor, params: AugmentationParams) -> Batch:
        """Everything but leaving out modalities."""
        device = image.device
        if device.type in AUGMENTED_ON_CPU:
            image, label = self._apply_on_cpu(image.cpu(), label.cpu(), params)
            return image.to(device), label.to(device)
        if device.type != "cpu":
            return self._apply_batched(image, label, params)
        return self._apply_on_cpu(image, label, params)

    def _apply_on_cpu(self, image: Tensor, label: Tensor, params: AugmentationParams) -> Batch:
        with single_threaded():
            if params.warp is not None:
                image, label = apply_warp(image, label, params.warp, self.size, params.flips)
            elif any(params.flips):
                image, label = flip(image, label, params.flips)
            elif params.changes_intensity:
                image = image.clone()
            return apply_intensity(image, params.intensity), self._swap_sides(label, params.flips)

    def _apply_batched(self, image: Tensor, label: Tensor, params: AugmentationParams) -> Batch:
        if params.warp is not None:
            image, label = apply_warp_batched(image, label, params.warp, self.size, params.flips)
        elif any(params.flips):
            image, label = flip(image, label, params.flips)
        elif params.changes_intensity:
            image = image.clone()
        label = self._swap_sides(label, params.flips)
        return apply_intensity_batched(image, params.intensity) if params.changes_intensity else image, label

    def _draw(self, locations: list[PatchLocation], channels: int, generator: torch.Generator) -> AugmentationParams:
        batch = len(locations)
        warp = draw_warp(self.config, self.size, batch, generator)
        region = self.size
        if warp is not None:
            margin = warp.margin(self.size)
            region = triple([n + 2 * m for n, m in zip(self.size, margin, strict=True)])
            locations = [
                PatchLocation(location.subject, triple([s - m for s, m in zip(location.start, margin, strict=True)]))
                for location in locations
            ]
        flips = (torch.rand(batch, generator=generator) < self.config.flip).tolist()
        intensity = draw_intensity(self.config, batch, channels, self.size, generator)
        kept = draw_kept(self.config.modality_dropout, batch, channels, generator)
        return AugmentationParams(locations, region, warp, flips, intensity, kept)


def draw_kept(probability: float, batch: int, channels: int, generator: torch.Generator) -> list[list[bool]] | None:
    """Draw which channels of each sub-volume are kept: each is left out with a probability, but for one at random.

    ``None``, and nothing is drawn, for a probability of 0 and for a single channel.
    """
    if not probability or channels < 2:
        return None
    kept = torch.rand(batch, channels, generator=generator) >= probability
    spared = torch.randint(channels, (batch, 1), generator=generator)
    none_left = ~kept.any(dim=1, keepdim=True)
    rows: list[list[bool]] = (kept | (none_left & (torch.arange(channels) == spared))).tolist()
    return rows
