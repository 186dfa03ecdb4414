"""Random changes of intensities, each drawn per sub-volume and channel: brightness, contrast, gamma, bias field, blur,
low resolution, noise.

What is decided is drawn on the CPU from a generator (:func:`draw_intensity`); on a CPU the work is done for those
channels alone that drew it (:func:`apply_intensity`). Blur and low resolution together are one small matrix along each
axis, and so is the bias field.
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
BIAS_STRENGTH = 0.3  # standard deviation of their logarithm
BLUR_RADIUS = 3  # voxels
LOWEST_RESOLUTION = 0.5  # of the size along each axis
CHUNK_VOXELS = 2**17  # that are changed at once, so that they and what is needed for them stay in its caches

Matrices = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Intensity:
    """What happens to one channel of one sub-volume, in this order; tensors are on the CPU until they are used.

    Attributes
    ----------
    exponent : power of gamma.
    contrast, brightness : factor and offset.
    bias : control points of the bias field, float32 (4, 4, 4), or ``None``.
    smoothing : for each axis a matrix, float32 (n, n), that blurs and coarsens along it, or ``None``.
    noise : standard deviation.
    noise_seed : of the noise itself, which is made where the image is.
    """

    exponent: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    bias: Tensor | None = None
    smoothing: Matrices | None = None
    noise: float = 0.0
    noise_seed: int = 0

    @property
    def tones(self) -> bool:
        """Whether single voxels change before smoothing."""
        return (self.exponent, self.contrast, self.brightness) != (1.0, 1.0, 0.0) or self.bias is not None

    @property
    def nothing(self) -> bool:
        """Whether nothing happens."""
        return not self.tones and self.smoothing is None and self.noise == 0


def draw_intensity(
    config: AugmentConfig, batch: int, channels: int, size: Size3, generator: torch.Generator
) -> list[Intensity]:
    """Draw for sub-volumes of ``size`` voxels: one entry per sub-volume and channel, channels changing fastest."""
    count = batch * channels

    def some(neutral: float, low: float, high: float) -> list[float]:
        """Numbers between low and high for those that chance picks, the neutral one for the others."""
        picked, value = torch.rand(2, count, generator=generator)
        return torch.where(picked < config.intensity, low + (high - low) * value, neutral).tolist()

    if config.intensity <= 0 and config.noise <= 0:
        return [Intensity()] * count
    contrast, brightness, exponent = some(1, 0.75, 1.3), some(0, -0.2, 0.2), some(1, 0.7, 1.5)
    sigma, share = some(0, 0.4, 1.0), some(1, LOWEST_RESOLUTION, 1.0)
    biased = (torch.rand(count, generator=generator) < config.intensity).tolist()
    bias = (torch.randn(count, *[BIAS_POINTS] * 3, generator=generator) * BIAS_STRENGTH).exp_()
    noise = (config.noise * torch.rand(count, generator=generator)).tolist()
    seeds = torch.randint(2**62, (count,), generator=generator).tolist()
    return [
        Intensity(
            exponent[n], contrast[n], brightness[n], bias[n] if biased[n] else None,
            _smoothing(sigma[n], share[n], size), noise[n], seeds[n],
        )
        for n in range(count)
    ]  # fmt: skip


def apply_intensity(image: Tensor, changes: list[Intensity]) -> Tensor:
    """Change an image, float32 (batch, channel, i, j, k) and contiguous: it is written to, and returned.

    Voxels of exactly 0 (air of skull-stripped images, padding) stay 0, so that no edge appears there; blur and low
    resolution are the exception, as they are in a scanner.
    """
    channels = [channel for sub_volume in image for channel in sub_volume]
    todo = [(channel, change) for channel, change in zip(channels, changes, strict=True) if not change.nothing]
    run_parallel([functools.partial(change_channel, *one) for one in todo])
    return image


def change_channel(channel: Tensor, change: Intensity) -> None:
    """Change one channel (i, j, k) of one sub-volume."""
    if change.tones:
        change_tones(channel, change)
    if change.smoothing is not None:
        smooth(channel, change.smoothing)
    if change.noise > 0:
        add_noise(channel, change.noise, change.noise_seed)


def change_tones(channel: Tensor, change: Intensity) -> None:
    """Gamma - intensities, scaled to 0..1, are raised to a power and scaled back -, contrast and brightness, and the
    bias field, of a channel (i, j, k)."""
    i, j, k = channel.shape
    low, high = channel.aminmax()
    extent = (high - low).clamp_min_(1e-6)
    factor, offset = extent * change.contrast, low * change.contrast + change.brightness
    field = None if change.bias is None else spread(change.bias, (i, j, k))
    for rows in slabs((i, j, k)):
        part = channel[rows]
        tissue = part.sign().abs_()
        if change.exponent == 1:
            part.mul_(change.contrast).add_(change.brightness)
        else:
            part.sub_(low).div_(extent).log2_().mul_(change.exponent).exp2_().mul_(factor).add_(offset)
        if field is not None:
            part.mul_((field[0][rows] @ field[1]).view_as(part))
        part.mul_(tissue)


def smooth(channel: Tensor, matrices: Matrices) -> None:
    """Multiply a channel (i, j, k) along each axis by a matrix (n, n)."""
    i, j, k = channel.shape
    along_i, along_j, along_k = matrices
    for rows in slabs((i, j, k)):
        part = channel[rows]
        torch.bmm(along_j.expand(len(part), j, j), (part.view(-1, k) @ along_k.T).view(-1, j, k), out=part)
    flat = channel.view(i, j * k)
    for columns in flat.split(_at_once(i), dim=1):
        columns.copy_(along_i @ columns)


def add_noise(channel: Tensor, deviation: float, seed: int) -> None:
    """Add independent Gaussian noise to a channel (i, j, k) where it is not 0.

    Making it is what it costs: 16 random bits choose one of 65536 equally likely values, whose standard deviation is 1
    to four digits and whose largest is 4.2.
    """
    bits, values = np.random.SFC64(seed), _quantiles()
    for part in channel.view(-1).split(CHUNK_VOXELS):
        drawn = torch.from_numpy(bits.random_raw(-(-len(part) // 4)).view(np.uint16)[: len(part)])
        noise = values.index_select(0, drawn.to(torch.int32))
        part.add_(noise.mul_(part.sign().abs_()), alpha=deviation)


def spread(control: Tensor, size: Size3) -> tuple[Tensor, Tensor]:
    """Trilinear interpolation between control points (..., a, b, c) that span ``size``, but for its last step: a matrix
    (i, a) and what it is to be multiplied with, (..., a, j * k), all at once or some rows after the other."""
    i, j, k = (linear(n, points) for n, points in zip(size, control.shape[-3:], strict=True))
    return i, (j @ control @ k.T).flatten(-2)


def slabs(size: Size3) -> list[slice]:
    """The rows along i to be worked on at once."""
    step = _at_once(size[1] * size[2])
    return [slice(start, min(start + step, size[0])) for start in range(0, size[0], step)]


@functools.lru_cache(64)
def linear(new: int, old: int) -> Tensor:
    """The matrix (new, old) of linear interpolation; the outermost points stay where they are. Not to be written to."""
    where = torch.linspace(0, old - 1, new) if new > 1 else torch.full((1,), (old - 1) / 2)
    return (1 - (where[:, None] - torch.arange(old)).abs()).clamp_min(0)


def gaussian(n: int, sigma: float) -> Tensor:
    """The matrix (n, n) of a Gaussian blur with a standard deviation in voxels, cut at three voxels; beyond the border
    the image goes on with the border's values."""
    if sigma <= 0:
        return torch.eye(n)
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    columns = (torch.arange(n)[:, None] + offsets).clamp(0, n - 1)
    return torch.zeros(n, n).scatter_add_(1, columns, kernel.expand(n, -1))


def coarse(n: int, share: float) -> Tensor:
    """The matrix (n, n) that goes down to a share of ``n`` points and up again, linear both times."""
    fewer = max(2, math.ceil(n * share))
    return linear(n, fewer) @ linear(fewer, n) if fewer < n else torch.eye(n)


def _at_once(voxels: int) -> int:
    """How many lines of so many voxels are worked on at once."""
    return max(1, CHUNK_VOXELS // voxels)


def _smoothing(sigma: float, share: float, size: Size3) -> Matrices | None:
    """Blur, then low resolution."""
    if sigma == 0 and share == 1:
        return None
    i, j, k = (coarse(n, share) @ gaussian(n, sigma) for n in size)
    return i, j, k


@functools.cache
def _quantiles() -> Tensor:
    """The middles of 65536 equally likely ranges of a standard normal number."""
    return torch.special.ndtri((torch.arange(65536, dtype=torch.float64) + 0.5) / 65536).float()
