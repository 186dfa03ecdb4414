"""Random changes of a batch of sub-volumes on the training device: space (image and label together) and intensity.

What is decided per sub-volume - whether, how far - is drawn on the CPU from the generator that is passed in, so nothing
here waits for the device. Rotation, scaling, and elastic deformation are one displacement field and one interpolation:
image trilinear, label nearest neighbour, so no label value is invented.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.config import AugmentConfig
from core.patches import DeviceSubjects, Place

ELASTIC_SPACING = 10  # voxels between the control points of the elastic deformation
BIAS_POINTS = 4  # control points per axis of a bias field
BIAS_STRENGTH = 0.3  # standard deviation of its logarithm
FLIP_AXIS = 0  # i runs from left to right in RAS


@dataclass(frozen=True)
class Warp:
    """How each sub-volume of a batch is moved: matrices (batch, 3, 3) in voxels about the centre, and elastic
    control-point displacements (batch, 3, a, b, c) in voxels, or ``None``."""

    matrix: Tensor
    control: Tensor | None

    def margin(self, size: tuple[int, int, int]) -> tuple[int, int, int]:
        """How many voxels beyond each side of a sub-volume of ``size`` are read, along i, j and k."""
        half = (torch.tensor(size, dtype=torch.float32) - 1) / 2
        beyond = (self.matrix.abs() @ half - half).amax(dim=0).clamp_min(0)
        if self.control is not None:
            beyond = beyond + self.control.abs().amax(dim=(0, 2, 3, 4))
        i, j, k = (math.ceil(voxels) + 1 for voxels in beyond.tolist())
        return i, j, k


class Augmenter:
    """Cuts sub-volumes out of subjects and augments them, as the configuration says."""

    def __init__(self, config: AugmentConfig, size: tuple[int, int, int]) -> None:
        self.config = config
        self.size = size

    def __call__(
        self, subjects: DeviceSubjects, places: list[Place], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return image float32 (batch, channel, i, j, k) and label uint8 (batch, i, j, k)."""
        warp = draw_warp(self.config, self.size, len(places), generator)
        if warp is None:
            image, label = subjects.crop(places, self.size)
        else:
            margin = warp.margin(self.size)
            region = tuple(n + 2 * m for n, m in zip(self.size, margin, strict=True))
            wide = [Place(p.subject, tuple(s - m for s, m in zip(p.start, margin, strict=True))) for p in places]  # type: ignore[arg-type]
            image, label = subjects.crop(wide, region)  # type: ignore[arg-type]
            image, label = apply_warp(image, label, warp, self.size)
        image, label = flip(image, label, self.config.flip, generator)
        return change_intensity(image, self.config, generator), label


def draw_warp(config: AugmentConfig, size: tuple[int, int, int], batch: int, generator: torch.Generator) -> Warp | None:
    """Draw rotation, scaling and elastic deformation for each sub-volume; ``None`` where none is to be moved."""
    turned = torch.rand(batch, generator=generator) < config.affine
    bent = torch.rand(batch, generator=generator) < config.elastic
    if not bool(turned.any() | bent.any()):
        return None
    angles = (2 * torch.rand(batch, 3, generator=generator) - 1) * math.radians(config.rotation_deg)
    scales = 1 + (2 * torch.rand(batch, 3, generator=generator) - 1) * config.scaling
    keep = turned[:, None].float()
    matrix = _rotation(angles * keep) @ torch.diag_embed(1 + (scales - 1) * keep)
    control = None
    if bool(bent.any()):
        points = [max(4, math.ceil(n / ELASTIC_SPACING) + 3) for n in size]
        control = torch.randn(batch, 3, *points, generator=generator).clamp_(-2.5, 2.5)
        control = control * config.elastic_voxels * bent[:, None, None, None, None]
    return Warp(matrix, control)


def apply_warp(image: Tensor, label: Tensor, warp: Warp, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Read a warped sub-volume of ``size`` from the middle of a larger region.

    Parameters
    ----------
    image : float32 (batch, channel, I, J, K), the region around the sub-volume.
    label : uint8 (batch, I, J, K).
    """
    device, region = image.device, image.shape[-3:]
    axes = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in size]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # voxels from the centre, (i, j, k, 3)
    matrix = warp.matrix.to(device, non_blocking=True)
    where = torch.einsum("bxy,ijky->bijkx", matrix, offsets)
    if warp.control is not None:
        control = warp.control.to(device, non_blocking=True)
        bend = F.interpolate(control, size=size, mode="trilinear", align_corners=True)
        where = where + bend.permute(0, 2, 3, 4, 1)
    half = torch.tensor([(n - 1) / 2 for n in region], device=device)
    grid = (where / half).flip(-1)  # grid_sample wants (x, y, z) = (k, j, i), -1 and 1 at the outermost voxel centres
    moved = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    chosen = F.grid_sample(label[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=True)
    return moved, chosen[:, 0].to(torch.uint8)


def flip(image: Tensor, label: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror left and right in the sub-volumes chosen by chance."""
    chosen = torch.rand(image.shape[0], generator=generator) < probability
    if not bool(chosen.any()):
        return image, label
    where = chosen.to(image.device, non_blocking=True)
    image = torch.where(where[:, None, None, None, None], image.flip(FLIP_AXIS + 2), image)
    label = torch.where(where[:, None, None, None], label.flip(FLIP_AXIS + 1), label)
    return image, label


def change_intensity(image: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, gamma, bias field, blur and noise, each drawn per sub-volume and channel.

    Voxels of exactly 0 (air of skull-stripped images, padding) stay 0, so that no edge appears there; blur is the
    exception, as it is in a scanner.
    """
    batch, channels = image.shape[:2]
    device = image.device

    def some(probability: float) -> Tensor:
        return (torch.rand(batch, channels, 1, 1, 1, generator=generator) < probability).float()

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, channels, 1, 1, 1, generator=generator)

    if config.intensity > 0:
        tissue = image != 0
        contrast = 1 + some(config.intensity) * (between(0.75, 1.3) - 1)
        brightness = some(config.intensity) * between(-0.2, 0.2)
        changed = image * contrast.to(device, non_blocking=True) + brightness.to(device, non_blocking=True)
        gammas, biased = some(config.intensity), some(config.intensity)
        exponent = 1 + gammas * (between(0.7, 1.5) - 1)
        if bool(gammas.any()):
            changed = _gamma(changed, exponent.to(device, non_blocking=True))
        if bool(biased.any()):
            field = torch.randn(batch, channels, *[BIAS_POINTS] * 3, generator=generator) * BIAS_STRENGTH * biased
            field = field.to(device, non_blocking=True)
            changed = changed * F.interpolate(field, size=image.shape[-3:], mode="trilinear", align_corners=True).exp()
        image = torch.where(tissue, changed, image)
        blurred, width = some(config.intensity), between(0.4, 1.0)
        if bool(blurred.any()):
            image = _blur(image, (width * blurred).flatten().to(device, non_blocking=True))
    if config.noise > 0:
        strength = (config.noise * between(0.0, 1.0)).to(device, non_blocking=True)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        noise = torch.randn(image.shape, device=device, generator=torch.Generator(device).manual_seed(seed))
        image = torch.where(image != 0, image + noise * strength, image)
    return image


def _rotation(angles: Tensor) -> Tensor:
    """Rotation matrices (batch, 3, 3) from angles about i, j and k in radians (batch, 3)."""
    sine, cosine = angles.sin(), angles.cos()
    result = torch.eye(3).expand(len(angles), 3, 3)
    for axis in range(3):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3).repeat(len(angles), 1, 1)
        turn[:, one, one] = turn[:, two, two] = cosine[:, axis]
        turn[:, one, two], turn[:, two, one] = -sine[:, axis], sine[:, axis]
        result = result @ turn
    return result


def _gamma(image: Tensor, exponent: Tensor) -> Tensor:
    """Raise intensities, scaled to 0..1 per sub-volume and channel, to a power, and scale back."""
    low, high = image.amin(dim=(2, 3, 4), keepdim=True), image.amax(dim=(2, 3, 4), keepdim=True)
    extent = (high - low).clamp_min(1e-6)
    return ((image - low) / extent).clamp(0, 1).pow(exponent) * extent + low


def _blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a standard deviation in voxels for each sub-volume and channel, flat; 0 leaves it alone.

    Beyond the border the image goes on with the border's values.
    """
    radius = 3
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    flat = F.pad(image.reshape(1, -1, *image.shape[-3:]), [radius] * 6, mode="replicate")
    for axis in range(3):
        shape = [len(kernels), 1, 1, 1, 1]
        shape[axis + 2] = 2 * radius + 1
        flat = F.conv3d(flat, kernels.reshape(shape), groups=len(kernels))
    return flat.reshape(image.shape)
