"""The image of a subject as predictors take it: voxels, voxel size, and whether its orientation is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from core.datasets import LoadedSubject
from core.imaging.content import Box, content_box
from core.types import Size3, SpacingMm, triple


@dataclass(frozen=True)
class SubjectImage:
    """An image to segment.

    Attributes
    ----------
    voxels : ndarray, float32, shape (channel, i, j, k). Intensities as stored, one channel per modality, in RAS.
    spacing_mm : tuple of float. Voxel size along i, j, k.
    oriented : bool. Whether the image states its orientation; without one, it is not known along which axis left and
        right lie, and a network with classes for both does not average with the mirrored image.
    voxel_volume_mm3 : float, optional. Volume of a voxel; default the product of its sizes, as of axes at right angles.
    """

    voxels: np.ndarray
    spacing_mm: SpacingMm
    oriented: bool = True
    voxel_volume_mm3: float | None = None

    @classmethod
    def of(cls, subject: LoadedSubject) -> SubjectImage:
        """The image of a subject that was read from its files."""
        return cls(
            subject.image, subject.geometry.spacing_mm, subject.geometry.oriented, subject.geometry.voxel_volume_mm3
        )

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return (math.prod(self.spacing_mm) if self.voxel_volume_mm3 is None else self.voxel_volume_mm3) / 1000

    @cached_property
    def content(self) -> Box:
        """The box of the voxels in which any channel is not 0."""
        return content_box(self.voxels)

    def cropped(self) -> SubjectImage:
        """The image of the content alone."""
        return replace(self, voxels=np.ascontiguousarray(self.voxels[:, *self.content]))

    @property
    def shape(self) -> Size3:
        """Voxels along i, j, k."""
        return triple(self.voxels.shape[1:])
