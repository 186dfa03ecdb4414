"""Random changes of intensities per sub-volume and channel: brightness, contrast, gamma, bias field, blur, low
resolution, noise.

Parameters are drawn on the CPU from a generator (:func:`draw_intensity`). On a CPU only the channels that drew a change
are processed (:func:`apply_intensity`). Blur and low resolution together are one small matrix along each axis, and so
is the bias field.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.compute.threads import run_parallel
from core.config import AugmentConfig
from core.types import Size3

BIAS_POINTS = 4  # control points per axis of a bias field
BIAS_LOG_STD = 0.3  # standard deviation of the logarithm of the control points
BLUR_RADIUS = 3  # voxels
MIN_RESOLUTION = 0.5  # fraction of the size along each axis
CHUNK_VOXELS = 2**17  # processed at once, so that they stay in a core's cache with their intermediate results

AxisMatrices = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class IntensityChange:
    """Changes of one channel of one sub-volume, in the order of application; tensors are on the CPU.

    Attributes
    ----------
    gamma : float. Exponent of intensities scaled to 0 ... 1.
    contrast, brightness : float. Factor and offset.
    bias_field : Tensor or None. Control points, float32 (4, 4, 4).
    smoothing : tuple of Tensor or None. For each axis a matrix, float32 (n, n), that blurs and lowers the resolution.
    noise_std : float. Standard deviation of Gaussian noise.
    noise_seed : int. Seed of the noise, which is generated on the image's device.
    """

    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    bias_field: Tensor | None = None
    smoothing: AxisMatrices | None = None
    noise_std: float = 0.0
    noise_seed: int = 0

    @property
    def is_voxelwise(self) -> bool:
        """Whether gamma, contrast, brightness or bias field change voxels."""
        return (self.gamma, self.contrast, self.brightness) != (1.0, 1.0, 0.0) or self.bias_field is not None

    @property
    def is_identity(self) -> bool:
        """Whether the channel stays unchanged."""
        return not self.is_voxelwise and self.smoothing is None and self.noise_std == 0


def draw_intensity(
    config: AugmentConfig, batch: int, channels: int, size: Size3, generator: torch.Generator
) -> list[IntensityChange]:
    """Draw changes for sub-volumes of ``size`` voxels: one per sub-volume and channel, channels changing fastest."""
    count = batch * channels

    def draw_values(neutral: float, low: float, high: float) -> list[float]:
        """Uniform values between low and high with the configured probability, else the neutral one."""
        chance, value = torch.rand(2, count, generator=generator)
        return torch.where(chance < config.intensity, low + (high - low) * value, neutral).tolist()

    if config.intensity <= 0 and config.noise <= 0:
        return [IntensityChange()] * count
    contrast, brightness, gamma = draw_values(1, 0.75, 1.3), draw_values(0, -0.2, 0.2), draw_values(1, 0.7, 1.5)
    sigma, resolution = draw_values(0, 0.4, 1.0), draw_values(1, MIN_RESOLUTION, 1.0)
    has_bias = (torch.rand(count, generator=generator) < config.intensity).tolist()
    bias_field = (torch.randn(count, *[BIAS_POINTS] * 3, generator=generator) * BIAS_LOG_STD).exp_()
    noise_std = (config.noise * torch.rand(count, generator=generator)).tolist()
    seeds = torch.randint(2**62, (count,), generator=generator).tolist()
    return [
        IntensityChange(
            gamma=gamma[n],
            contrast=contrast[n],
            brightness=brightness[n],
            bias_field=bias_field[n] if has_bias[n] else None,
            smoothing=_smoothing_matrices(sigma[n], resolution[n], size),
            noise_std=noise_std[n],
            noise_seed=seeds[n],
        )
        for n in range(count)
    ]


def apply_intensity(image: Tensor, changes: list[IntensityChange]) -> Tensor:
    """Change an image in place, and return it.

    Voxels of exactly 0 (air of skull-stripped images, padding) stay 0, so that no edge appears there, except under blur
    and low resolution.

    Parameters
    ----------
    image : Tensor, float32, shape (batch, channel, i, j, k). Contiguous.
    changes : list of IntensityChange. One per sub-volume and channel, channels changing fastest.
    """
    channels = [channel for sub_volume in image for channel in sub_volume]
    changed = [(channel, change) for channel, change in zip(channels, changes, strict=True) if not change.is_identity]
    run_parallel([functools.partial(change_channel, *arguments) for arguments in changed])
    return image


def change_channel(channel: Tensor, change: IntensityChange) -> None:
    """Change one channel (i, j, k) of one sub-volume, in place."""
    if change.is_voxelwise:
        change_voxelwise(channel, change)
    if change.smoothing is not None:
        smooth(channel, change.smoothing)
    if change.noise_std > 0:
        add_noise(channel, change.noise_std, change.noise_seed)


def change_voxelwise(channel: Tensor, change: IntensityChange) -> None:
    """Apply gamma, contrast, brightness and bias field to a channel (i, j, k), in place.

    Gamma raises intensities scaled to 0 ... 1 to a power and scales them back.
    """
    i, j, k = channel.shape
    low, high = channel.aminmax()
    extent = (high - low).clamp_min_(1e-6)
    factor, offset = extent * change.contrast, low * change.contrast + change.brightness
    field = None if change.bias_field is None else interpolation_factors(change.bias_field, (i, j, k))
    for rows in row_chunks((i, j, k)):
        part = channel[rows]
        nonzero = part.sign().abs_()
        if change.gamma == 1:
            part.mul_(change.contrast).add_(change.brightness)
        else:
            part.sub_(low).div_(extent).log2_().mul_(change.gamma).exp2_().mul_(factor).add_(offset)
        if field is not None:
            part.mul_((field[0][rows] @ field[1]).view_as(part))
        part.mul_(nonzero)


def smooth(channel: Tensor, matrices: AxisMatrices) -> None:
    """Multiply a channel (i, j, k) along each axis by a matrix (n, n), in place."""
    i, j, k = channel.shape
    along_i, along_j, along_k = matrices
    for rows in row_chunks((i, j, k)):
        part = channel[rows]
        torch.bmm(along_j.expand(len(part), j, j), (part.view(-1, k) @ along_k.T).view(-1, j, k), out=part)
    flat = channel.view(i, j * k)
    for columns in flat.split(_lines_per_chunk(i), dim=1):
        columns.copy_(along_i @ columns)


def add_noise(channel: Tensor, std: float, seed: int) -> None:
    """Add independent Gaussian noise to the non-zero voxels of a channel (i, j, k), in place.

    Generating the noise takes most of the time, so 16 random bits choose one of 65536 equally likely values, whose
    standard deviation is 1 to four digits and whose largest is 4.2.
    """
    bits, quantiles = np.random.SFC64(seed), _normal_quantiles()
    for part in channel.view(-1).split(CHUNK_VOXELS):
        indices = torch.from_numpy(bits.random_raw(-(-len(part) // 4)).view(np.uint16)[: len(part)])
        noise = quantiles.index_select(0, indices.to(torch.int32))
        part.add_(noise.mul_(part.sign().abs_()), alpha=std)


def interpolation_factors(control: Tensor, size: Size3) -> tuple[Tensor, Tensor]:
    """Trilinear interpolation between control points (..., a, b, c) that span ``size``, without its last product.

    Returns
    -------
    rows : Tensor, shape (i, a). Interpolation along i; a few rows at a time can be multiplied.
    face : Tensor, shape (..., a, j * k). The control points interpolated along j and k.
    """
    i, j, k = (linear_matrix(n, points) for n, points in zip(size, control.shape[-3:], strict=True))
    return i, (j @ control @ k.T).flatten(-2)


def row_chunks(size: Size3) -> list[slice]:
    """Slices of rows along i that are processed at once."""
    step = _lines_per_chunk(size[1] * size[2])
    return [slice(start, min(start + step, size[0])) for start in range(0, size[0], step)]


@functools.lru_cache(64)
def linear_matrix(new: int, old: int) -> Tensor:
    """The cached matrix (new, old) of linear interpolation with aligned end points; not to be written to."""
    positions = torch.linspace(0, old - 1, new) if new > 1 else torch.full((1,), (old - 1) / 2)
    return (1 - (positions[:, None] - torch.arange(old)).abs()).clamp_min(0)


def gaussian_matrix(n: int, sigma: float) -> Tensor:
    """The matrix (n, n) of a Gaussian blur with standard deviation ``sigma`` in voxels, cut at three voxels; the border
    is replicated."""
    if sigma <= 0:
        return torch.eye(n)
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    columns = (torch.arange(n)[:, None] + offsets).clamp(0, n - 1)
    return torch.zeros(n, n).scatter_add_(1, columns, kernel.expand(n, -1))


def low_resolution_matrix(n: int, resolution: float) -> Tensor:
    """The matrix (n, n) that resamples linearly to a fraction of ``n`` points and back."""
    fewer = max(2, math.ceil(n * resolution))
    return linear_matrix(n, fewer) @ linear_matrix(fewer, n) if fewer < n else torch.eye(n)


def _lines_per_chunk(voxels: int) -> int:
    """Number of lines per chunk, for lines of ``voxels`` voxels."""
    return max(1, CHUNK_VOXELS // voxels)


def _smoothing_matrices(sigma: float, resolution: float, size: Size3) -> AxisMatrices | None:
    """Blur, then low resolution."""
    if sigma == 0 and resolution == 1:
        return None
    i, j, k = (low_resolution_matrix(n, resolution) @ gaussian_matrix(n, sigma) for n in size)
    return i, j, k


@functools.cache
def _normal_quantiles() -> Tensor:
    """The medians of 65536 equally likely ranges of a standard normal variable, float32."""
    return torch.special.ndtri((torch.arange(65536, dtype=torch.float64) + 0.5) / 65536).float()
