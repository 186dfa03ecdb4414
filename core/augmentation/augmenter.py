"""Random changes of a batch of sub-volumes on the training device: space (image and label together) and intensity.

What is decided per sub-volume - whether, how far - is drawn on the CPU from the generator that is passed in
(:meth:`Augmenter.draw`), so nothing on the device is waited for and regions can be cut ahead of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.augmentation.batched import change_batch, warp_batch
from core.augmentation.intensity import Intensity, apply_intensity, draw_intensity
from core.augmentation.warp import Warp, apply_warp, draw_warp, flip
from core.compute.threads import single_threaded
from core.config import AugmentConfig
from core.sampling.patches import Place, Subjects
from core.types import Size3, triple


@dataclass(frozen=True)
class Draw:
    """Everything that chance decides about a batch.

    Attributes
    ----------
    places, region : what to cut for it: where, and how many voxels along i, j and k.
    warp : how the sub-volume is read from the region, or ``None``.
    flips : which sub-volumes are mirrored.
    intensity : what happens to intensities, for each channel of each sub-volume.
    """

    places: list[Place]
    region: Size3
    warp: Warp | None
    flips: list[bool]
    intensity: list[Intensity]


class Augmenter:
    """Cuts sub-volumes out of subjects and augments them, as the configuration says."""

    def __init__(self, config: AugmentConfig, size: Size3) -> None:
        self.config = config
        self.size = size

    def __call__(self, subjects: Subjects, places: list[Place], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k)."""
        draw = self.draw(places, subjects.channels, generator)
        return self.apply(*subjects.crop(draw.places, draw.region), draw)

    def draw(self, places: list[Place], channels: int, generator: torch.Generator) -> Draw:
        """Decide what happens to the sub-volumes at these places; costs next to nothing."""
        with single_threaded():
            return self._draw(places, channels, generator)

    def apply(self, image: Tensor, label: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Make sub-volumes of the regions that were drawn, on the device where they are.

        Parameters
        ----------
        image : float32 (batch, channel, *draw.region).
        label : uint8 (batch, *draw.region).

        Returns
        -------
        Image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k).
        """
        if image.device.type != "cpu":
            return self._apply_at_once(image, label, draw)
        with single_threaded():
            if draw.warp is not None:
                image, label = apply_warp(image, label, draw.warp, self.size, draw.flips)
            elif any(draw.flips):
                image, label = flip(image, label, draw.flips)
            elif not all(change.nothing for change in draw.intensity):
                image = image.clone()
            return apply_intensity(image, draw.intensity), label

    def _apply_at_once(self, image: Tensor, label: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        changed = not all(change.nothing for change in draw.intensity)
        if draw.warp is not None:
            image, label = warp_batch(image, label, draw.warp, self.size, draw.flips)
        elif any(draw.flips):
            image, label = flip(image, label, draw.flips)
        elif changed:
            image = image.clone()
        return change_batch(image, draw.intensity) if changed else image, label

    def _draw(self, places: list[Place], channels: int, generator: torch.Generator) -> Draw:
        batch = len(places)
        warp = draw_warp(self.config, self.size, batch, generator)
        region = self.size
        if warp is not None:
            margin = warp.margin(self.size)
            region = triple([n + 2 * m for n, m in zip(self.size, margin, strict=True)])
            places = [Place(p.subject, triple([s - m for s, m in zip(p.start, margin, strict=True)])) for p in places]
        flips = (torch.rand(batch, generator=generator) < self.config.flip).tolist()
        intensity = draw_intensity(self.config, batch, channels, self.size, generator)
        return Draw(places, region, warp, flips, intensity)
