"""Volumes as a viewer in a browser gets them: 16-bit intensities and 8-bit class indices, first axis fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.imaging.geometry import Geometry
from core.types import Size3, SpacingMm

LEVELS = 65535
WINDOW_PERCENTILES = (0.5, 99.5)  # of the voxels above the lowest value
SAMPLE = 400_000  # voxels that percentiles are taken from
STRIPPED = 0.2  # where more of the voxels than this have the lowest value, that is air, and black

AffineRows = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Channel:
    """One modality: a stored value s stands for the intensity low + s / 65535 (high - low); ``window`` is the range of
    intensities that is shown from black to white at first."""

    name: str
    low: float
    high: float
    window: tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """Where the voxels lie: voxels and millimetres along i, j, k; the affine (rows of 4) from voxel index to RAS mm, or
    ``None`` where the orientation is unknown."""

    shape: Size3
    spacing_mm: SpacingMm
    affine: AffineRows | None

    @classmethod
    def of(cls, geometry: Geometry) -> Grid:
        """The grid of a canonical geometry."""
        rows = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in geometry.affine)
        return cls(geometry.shape, geometry.spacing_mm, rows if geometry.oriented else None)


def channels(image: np.ndarray, names: Sequence[str]) -> tuple[Channel, ...]:
    """Ranges and first windows of an image: float32, shape (channels, i, j, k), finite."""
    return tuple(_channel(name, values) for name, values in zip(names, image, strict=True))


def image_bytes(image: np.ndarray, ranges: Sequence[Channel]) -> bytes:
    """The image, float32 (channels, i, j, k), as little-endian uint16, i fastest, one channel after the other."""
    parts = []
    for values, channel in zip(image, ranges, strict=True):
        scaled = (values - channel.low) * (LEVELS / (channel.high - channel.low))
        parts.append(np.rint(scaled).clip(0, LEVELS).astype("<u2").tobytes(order="F"))
    return b"".join(parts)


def label_bytes(index: np.ndarray) -> bytes:
    """Class indices, uint8 (i, j, k), as bytes with i fastest."""
    if index.dtype != np.uint8:
        raise ValueError(f"expected class indices as uint8, got {index.dtype}")
    return index.tobytes(order="F")


def _channel(name: str, values: np.ndarray) -> Channel:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return Channel(name, low, low + 1, (low, low + 1))
    flat = values.ravel()
    sample = flat[:: max(1, flat.size // SAMPLE)]
    inside = sample[sample > low]
    bottom, top = (float(v) for v in np.percentile(inside if inside.size else sample, WINDOW_PERCENTILES))
    if np.mean(sample == low) > STRIPPED:
        bottom = low
    return Channel(name, low, high, (bottom, top) if top > bottom else (low, high))
