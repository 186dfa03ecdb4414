"""A picture of one slice of an image file, for the time in which the rest of the file is decompressed."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from core.imaging.display import upright_slices
from core.imaging.mapped_volume import MappedVolume, SlicePlace
from core.imaging.outliers import intensity_range

MAX_SIDE = 512  # pixels


@dataclass(frozen=True)
class Preview:
    """A picture of one slice.

    Attributes
    ----------
    place : SlicePlace. The slice.
    jpeg : bytes. In radiological convention.
    ratio : float. Width in mm as a multiple of the height.
    """

    place: SlicePlace
    jpeg: bytes
    ratio: float


def picture_of(volume: MappedVolume, channel: int, place: SlicePlace) -> Preview:
    """A picture of a slice, with the intensities of most of its voxels from black to white.

    Parameters
    ----------
    volume : MappedVolume. The file; its bytes before ``place.end`` are there.
    channel : int. Channel of the file.
    place : SlicePlace. The slice.
    """
    sides = [slice(None)] * 3
    sides[place.axis] = slice(place.number, place.number + 1)
    values = np.squeeze(volume.intensities((sides[0], sides[1], sides[2]), channel), place.axis)
    rows = upright_slices(values, volume.geometry.oriented)
    inliers = intensity_range(rows)
    span = inliers.high - inliers.low or 1.0
    picture = Image.fromarray((255 * ((rows - inliers.low) / span).clip(0, 1)).astype(np.uint8))
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    across, up = np.delete(np.array(volume.geometry.canonical.spacing_mm) * volume.shape, place.axis)
    return Preview(place, file.getvalue(), float(across / up))
