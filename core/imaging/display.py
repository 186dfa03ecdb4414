"""Encodes volumes for the browser's viewer: uint16 intensities and uint8 class indices, i fastest.

Two bytes per voxel hold most images exactly: whole numbers that span no more than 65536 values, and up to 65536
different values of any kind, such as 16-bit numbers with a slope. Other intensities are rounded to 65536 steps of a
range without extremes, and a readout asks the server for the intensity of a voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.imaging.geometry import Geometry
from core.imaging.outliers import intensity_range, sample_voxels
from core.types import Size3, SpacingMm

MAX_STORED = 65535
WINDOW_PERCENTILES = (0.5, 99.5)  # of the voxels above the lowest value
WINDOWS_BEYOND = 8  # widths of the initial window by which the range may exceed it on either side
AIR_SHARE = 0.2  # with more voxels than this at the lowest value, that value is air and the window starts there
SMALLEST_STEP = float(np.finfo(np.float32).tiny)  # its inverse is finite
SORTED_VOXELS = 2**17  # voxels of the largest volume whose different values are found by sorting

AffineRows = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Channel:
    """Intensity range of one modality, and how its voxels are stored.

    Attributes
    ----------
    name : str. Modality.
    low, high : float. Range of the intensities without outliers; the window is chosen in it.
    window : tuple of float. Intensities shown as black and white at first.
    background : float. Intensity of what surrounds the content.
    offset, step : float. A stored value s is the intensity ``offset + s * step``, where there are no levels.
    levels : int. Number of different intensities, which follow the voxels in ascending order; a stored value is the
        index of one. 0 for none.
    stored_background : int. Stored value of the background.
    exact : bool. Whether stored values give the intensities of the file. Otherwise they are rounded, and clipped to the
        range.
    """

    name: str
    low: float
    high: float
    window: tuple[float, float]
    background: float = 0.0
    offset: float = 0.0
    step: float = 1.0
    levels: int = 0
    stored_background: int = 0
    exact: bool = True


@dataclass(frozen=True)
class EncodedImage:
    """An image for the browser.

    Attributes
    ----------
    data : bytes. The stored values of each channel, little-endian uint16, i fastest, channels one after another; zeros
        up to a multiple of four bytes; the levels of each channel, little-endian float32.
    channels : tuple of Channel. How each channel is stored.
    """

    data: bytes
    channels: tuple[Channel, ...]

    @property
    def exact(self) -> bool:
        """Whether all intensities can be read from ``data``."""
        return all(channel.exact for channel in self.channels)


@dataclass(frozen=True)
class Grid:
    """Voxel grid of a volume in canonical order.

    Attributes
    ----------
    shape : tuple of int. Voxels along i, j, k.
    spacing_mm : tuple of float. Voxel size along i, j, k.
    affine : tuple of rows, 4x4, or None. Voxel index to RAS mm; ``None`` if the orientation is unknown.
    file_axes : tuple of (int, bool), or None. For each axis of the file, the axis of the grid that it became and
        whether it was reversed (:attr:`Geometry.file_axes`); ``None`` for a volume without a file.
    """

    shape: Size3
    spacing_mm: SpacingMm
    affine: AffineRows | None
    file_axes: tuple[tuple[int, bool], ...] | None = None

    @classmethod
    def from_geometry(cls, geometry: Geometry, stored: Geometry | None = None) -> Grid:
        """The grid of a canonical geometry, of a file with the geometry ``stored``."""
        rows = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in geometry.affine)
        file_axes = stored.file_axes if stored is not None else None
        return cls(geometry.shape, geometry.spacing_mm, rows if geometry.oriented else None, file_axes)

    @property
    def tilt(self) -> str:
        """How the voxel axes deviate from the axes of the patient, as text (:attr:`Geometry.tilt`); empty if they do
        not."""
        return "" if self.affine is None else Geometry(self.shape, np.array(self.affine)).tilt


def channels(image: np.ndarray, names: Sequence[str]) -> tuple[Channel, ...]:
    """Intensity range, initial window and background of each channel.

    Parameters
    ----------
    image : ndarray, float32, shape (channel, i, j, k). Finite intensities.
    names : sequence of str. Modality of each channel.
    """
    return tuple(_channel(name, values) for name, values in zip(names, image, strict=True))


def encode_image(image: np.ndarray, ranges: Sequence[Channel]) -> EncodedImage:
    """Encode an image.

    Parameters
    ----------
    image : ndarray, float32, shape (channel, i, j, k). Finite intensities.
    ranges : sequence of Channel. Ranges of the channels (:func:`channels`), of this image or of one it is cut from.
    """
    stored, levels, encoded = [], [], []
    for values, channel in zip(image, ranges, strict=True):
        index, found, described = _encode_channel(values, channel)
        stored.append(_i_fastest(index.astype("<u2", copy=False)))
        levels.append(found.astype("<f4").tobytes())
        encoded.append(described)
    padding = bytes(-sum(map(len, stored)) % 4)
    return EncodedImage(b"".join([*stored, padding, *levels]), tuple(encoded))


def encode_label(index: np.ndarray) -> bytes:
    """Encode class indices, uint8, shape (i, j, k), as bytes: i fastest."""
    if index.dtype != np.uint8:
        raise ValueError(f"expected class indices as uint8, got {index.dtype}")
    return _i_fastest(index)


def part_channel(name: str, sample: np.ndarray, dtype: str, scaled: bool) -> Channel:
    """How a channel is stored that is encoded in parts (:func:`encode_part`), without a look at all of its voxels.

    Parameters
    ----------
    name : str. Modality.
    sample : ndarray, float32, shape (i, j, k). Evenly spaced voxels.
    dtype : str. numpy type of the values in the file.
    scaled : bool. Whether intensities differ from those values. Unscaled whole numbers of up to 16 bits are exact;
        others are rounded to steps of the range of the sample.
    """
    channel = _channel(name, sample)
    kind = np.dtype(dtype)
    exact = kind.kind in "iu" and kind.itemsize <= 2 and not scaled
    if exact:
        offset, step = float(np.iinfo(kind).min), 1.0
    else:
        offset, step = channel.low, max((channel.high - channel.low) / MAX_STORED, SMALLEST_STEP)
    background = int(np.clip(np.rint((channel.background - offset) / step), 0, MAX_STORED))
    return replace(channel, offset=offset, step=step, stored_background=background, exact=exact)


def encode_part(values: np.ndarray, channel: Channel) -> bytes:
    """Encode a part of a channel, float32, shape (i, j, k): little-endian uint16, i fastest."""
    stored = (values - np.float32(channel.offset)) * np.float32(1 / channel.step)
    np.rint(stored, out=stored)
    return _i_fastest(np.clip(stored, 0, MAX_STORED, out=stored).astype("<u2"))


def upright_slices(slices: np.ndarray, oriented: bool) -> np.ndarray:
    """Transpose slices, shape (..., across, up), to picture rows and columns.

    The last axis points up: anterior or superior. In radiological convention the patient's right is on the left; where
    the orientation is unknown (``oriented`` is ``False``) nothing is mirrored.
    """
    rows = np.moveaxis(slices, -1, -2)[..., ::-1, :]
    return np.ascontiguousarray(rows[..., ::-1] if oriented else rows)


def _i_fastest(volume: np.ndarray) -> bytes:
    """The bytes of a volume (i, j, k) with i fastest, as of ``tobytes(order="F")``, in less than half of its time."""
    if volume.flags.f_contiguous:
        return volume.tobytes(order="F")
    reordered = np.empty(volume.shape[::-1], volume.dtype)
    for j in range(volume.shape[1]):
        reordered[:, j] = volume[:, j].T
    return reordered.tobytes()


def _channel(name: str, values: np.ndarray) -> Channel:
    inliers = intensity_range(values)
    low, high = inliers.low, inliers.high
    if high <= low:
        return Channel(name, low, low + 1, (low, low + 1), background=low)
    sample = sample_voxels(values)
    sample = sample[~inliers.is_outlier(sample)]
    inside = sample[sample > low]
    bottom, top = (float(v) for v in np.percentile(inside if inside.size else sample, WINDOW_PERCENTILES))
    lowest_share = float(np.mean(sample == low))
    background = low if lowest_share >= np.mean(sample == 0) else 0.0
    if lowest_share > AIR_SHARE:
        bottom = low
    if top <= bottom:
        return Channel(name, low, high, (low, high), background)
    reach = WINDOWS_BEYOND * (top - bottom)
    return Channel(name, max(low, bottom - reach), min(high, top + reach), (bottom, top), background)


def _encode_channel(values: np.ndarray, channel: Channel) -> tuple[np.ndarray, np.ndarray, Channel]:
    """Stored values, uint16, shape (i, j, k); levels, float32, shape (n,); and the channel with its storage."""
    low, high = float(values.min()), float(values.max())
    none = np.zeros(0, np.float32)
    if high - low <= MAX_STORED and _is_whole(values):
        index = (values - np.float32(low)).astype(np.uint16)
        background = int(np.clip(channel.background - low, 0, MAX_STORED))
        return index, none, replace(channel, offset=low, stored_background=background)
    found = _find_levels(values, channel)
    if found is not None:
        index, levels = found
        background = min(int(np.searchsorted(levels, np.float32(channel.background))), levels.size - 1)
        return index, levels, replace(channel, levels=levels.size, stored_background=background)
    index, step = _rounded(values, channel)
    background = int(np.clip(np.rint((channel.background - channel.low) / step), 0, MAX_STORED))
    return (
        index,
        none,
        replace(channel, offset=channel.low, step=step, stored_background=background, exact=False),
    )


def _is_whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers."""
    return all(bool(np.array_equal(v, np.rint(v))) for v in (sample_voxels(values), values))


def _rounded(values: np.ndarray, channel: Channel) -> tuple[np.ndarray, float]:
    """Values as uint16 steps of the range, clipped to it; and the step."""
    step = max((channel.high - channel.low) / MAX_STORED, SMALLEST_STEP)
    scaled = (values - np.float32(channel.low)) * np.float32(1 / step)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, 0, MAX_STORED, out=scaled).astype(np.uint16), step


def _find_levels(values: np.ndarray, channel: Channel) -> tuple[np.ndarray, np.ndarray] | None:
    """Index of each voxel into the different values, uint16, and those values, ascending; ``None`` if there are more
    than 65536, or some in the range are closer than a step of it.

    Values are compared with one value of each step of the range, because sorting large volumes takes long.
    """
    if values.size <= SORTED_VOXELS:
        levels, index = np.unique(values, return_inverse=True)
        return (index.reshape(values.shape).astype(np.uint16), levels) if levels.size <= MAX_STORED + 1 else None
    if _values_by_step(sample_voxels(values), channel) is None:
        return None
    found = _values_by_step(values, channel)
    if found is None:
        return None
    steps, by_step, is_inside = found
    outside = values[~is_inside]
    used = np.zeros(MAX_STORED + 1, bool)
    used[steps[is_inside]] = True
    levels = np.unique(np.concatenate([by_step[used], outside]))
    if levels.size > MAX_STORED + 1:
        return None
    ranks = np.zeros(MAX_STORED + 1, np.uint16)
    ranks[used] = np.searchsorted(levels, by_step[used])
    ranked = ranks[steps]
    if outside.size:
        ranked[~is_inside] = np.searchsorted(levels, outside)
    return ranked, levels


def _values_by_step(values: np.ndarray, channel: Channel) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The step of each value, the value in each step, and which values are inside the range; ``None`` if two values
    inside share a step, or more than 65536 are outside."""
    is_inside = (values >= channel.low) & (values <= channel.high)
    inside = values if is_inside.all() else values[is_inside]
    if values.size - inside.size > MAX_STORED:
        return None
    index, _ = _rounded(values, channel)
    by_step = np.zeros(MAX_STORED + 1, np.float32)
    steps = index if inside is values else index[is_inside]
    by_step[steps] = inside
    return (index, by_step, is_inside) if np.array_equal(by_step[steps], inside) else None
