"""Encodes volumes for the browser's viewer: uint16 intensities and uint8 class indices, i fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.imaging.geometry import Geometry
from core.types import Size3, SpacingMm

MAX_STORED = 65535
WINDOW_PERCENTILES = (0.5, 99.5)  # of the voxels above the lowest value
PERCENTILE_VOXELS = 400_000  # most voxels that percentiles are computed from
AIR_SHARE = 0.2  # with more voxels than this at the lowest value, that value is air and the window starts there

AffineRows = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Channel:
    """Intensity range of one modality. A stored value s is the intensity ``low + s / 65535 * (high - low)``.

    Attributes
    ----------
    name : str. Modality.
    low, high : float. Range of the intensities.
    window : tuple of float. Intensities shown as black and white at first.
    """

    name: str
    low: float
    high: float
    window: tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """Voxel grid of a volume in canonical order.

    Attributes
    ----------
    shape : tuple of int. Voxels along i, j, k.
    spacing_mm : tuple of float. Voxel size along i, j, k.
    affine : tuple of rows, 4x4, or None. Voxel index to RAS mm; ``None`` if the orientation is unknown.
    """

    shape: Size3
    spacing_mm: SpacingMm
    affine: AffineRows | None

    @classmethod
    def from_geometry(cls, geometry: Geometry) -> Grid:
        """The grid of a canonical geometry."""
        rows = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in geometry.affine)
        return cls(geometry.shape, geometry.spacing_mm, rows if geometry.oriented else None)


def channels(image: np.ndarray, names: Sequence[str]) -> tuple[Channel, ...]:
    """Intensity range and initial window of each channel.

    Parameters
    ----------
    image : ndarray, float32, shape (channel, i, j, k). Finite intensities.
    names : sequence of str. Modality of each channel.
    """
    return tuple(_channel(name, values) for name, values in zip(names, image, strict=True))


def encode_image(image: np.ndarray, ranges: Sequence[Channel]) -> bytes:
    """Encode an image, float32, shape (channel, i, j, k), as little-endian uint16: i fastest, channels one after
    another."""
    parts = []
    for values, channel in zip(image, ranges, strict=True):
        scaled = (values - channel.low) * (MAX_STORED / (channel.high - channel.low))
        parts.append(np.rint(scaled).clip(0, MAX_STORED).astype("<u2").tobytes(order="F"))
    return b"".join(parts)


def encode_label(index: np.ndarray) -> bytes:
    """Encode class indices, uint8, shape (i, j, k), as bytes: i fastest."""
    if index.dtype != np.uint8:
        raise ValueError(f"expected class indices as uint8, got {index.dtype}")
    return index.tobytes(order="F")


def upright_slices(slices: np.ndarray, oriented: bool) -> np.ndarray:
    """Transpose slices, shape (..., across, up), to picture rows and columns.

    The last axis points up: anterior or superior. In radiological convention the patient's right is on the left; where
    the orientation is unknown (``oriented`` is ``False``) nothing is mirrored.
    """
    rows = np.moveaxis(slices, -1, -2)[..., ::-1, :]
    return np.ascontiguousarray(rows[..., ::-1] if oriented else rows)


def _channel(name: str, values: np.ndarray) -> Channel:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return Channel(name, low, low + 1, (low, low + 1))
    flat = values.ravel()
    sample = flat[:: max(1, flat.size // PERCENTILE_VOXELS)]
    inside = sample[sample > low]
    bottom, top = (float(v) for v in np.percentile(inside if inside.size else sample, WINDOW_PERCENTILES))
    if np.mean(sample == low) > AIR_SHARE:
        bottom = low
    return Channel(name, low, high, (bottom, top) if top > bottom else (low, high))
