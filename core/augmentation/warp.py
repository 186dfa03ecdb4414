"""Spatial augmentation: rotation, scaling and elastic deformation as one displacement field and one interpolation
(image trilinear, label nearest neighbour, so no label value is invented), and left-right mirroring.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.augmentation.intensity import interpolation_factors, row_chunks
from core.compute.threads import run_parallel
from core.config import AugmentConfig
from core.types import Size3, triple

ELASTIC_SPACING = 10  # voxels between the control points of the elastic deformation
ANISOTROPY = 3  # largest ratio of two sides that are rotated into each other
MAX_CONTROL_STD = 2.5  # standard deviations at which displacements of control points are clipped
LEFT_RIGHT_AXIS = 0  # i in RAS
EXACT_VOXELS = 2**24  # up to which float32 represents every index of a voxel


@dataclass(frozen=True)
class Warp:
    """The spatial transforms of a batch: from a voxel of the sub-volume to the coordinates that are read.

    Attributes
    ----------
    matrix : Tensor, float32, shape (batch, 3, 3). Rotation and scaling in voxels, about the centre.
    control : Tensor or None, float32, shape (batch, 3, a, b, c). Displacements of elastic control points in voxels.
    """

    matrix: Tensor
    control: Tensor | None

    def margin(self, size: Size3) -> Size3:
        """Voxels along (i, j, k) that are read beyond each side of a sub-volume of ``size``."""
        half = (torch.tensor(size, dtype=torch.float32) - 1) / 2
        beyond = (self.matrix.abs() @ half - half).amax(dim=0).clamp_min(0)
        if self.control is not None:
            beyond = beyond + self.control.abs().amax(dim=(0, 2, 3, 4))
        i, j, k = (math.ceil(voxels) + 1 for voxels in beyond.tolist())
        return i, j, k

    def is_elastic(self, n: int) -> bool:
        """Whether sub-volume ``n`` is deformed elastically."""
        return self.control is not None and bool(self.control[n].any())

    def is_identity(self, n: int) -> bool:
        """Whether sub-volume ``n`` is not transformed."""
        return not self.is_elastic(n) and torch.equal(self.matrix[n], torch.eye(3))


def draw_warp(config: AugmentConfig, size: Size3, batch: int, generator: torch.Generator) -> Warp | None:
    """Draw rotation, scaling and elastic deformation of each sub-volume; ``None`` where no sub-volume has any.

    A sub-volume with a side shorter than a third of both others is transformed within its slices, as in nnU-Net
    (Isensee et al. 2021): rotation in three dimensions would turn the slices of a thin volume out of the sub-volume.
    Nor are sides rotated into each other of which one is longer than three times the other.
    """
    affine = torch.rand(batch, generator=generator) < config.affine
    elastic = torch.rand(batch, generator=generator) < config.elastic
    if not bool(affine.any() | elastic.any()):
        return None
    angles = (2 * torch.rand(batch, 3, generator=generator) - 1) * math.radians(config.rotation_deg)
    scales = 1 + (2 * torch.rand(batch, 3, generator=generator) - 1) * config.scaling
    applied = affine[:, None].float()
    others = [(size[axis - 1], size[axis - 2]) for axis in range(3)]  # which a rotation about the axis turns
    rotates = torch.tensor([ANISOTROPY * min(sides) >= max(sides) for sides in others])
    thick = torch.tensor([ANISOTROPY * n >= min(sides) for n, sides in zip(size, others, strict=True)])
    matrix = _rotation_matrices(angles * applied * rotates) @ torch.diag_embed(1 + (scales - 1) * applied * thick)
    control = None
    if bool(elastic.any()):
        points = [max(4, math.ceil(n / ELASTIC_SPACING) + 3) for n in size]
        control = torch.randn(batch, 3, *points, generator=generator).clamp_(-MAX_CONTROL_STD, MAX_CONTROL_STD)
        control = control * config.elastic_voxels * elastic[:, None, None, None, None] * thick[:, None, None, None]
    return Warp(matrix, control)


def apply_warp(
    image: Tensor, label: Tensor, warp: Warp, size: Size3, flips: Sequence[bool] | None = None
) -> tuple[Tensor, Tensor]:
    """Resample a batch of regions to warped, and optionally mirrored, sub-volumes, in chunks on a CPU.

    Sub-volumes without a transform are copied. Beyond the region its border is replicated.

    Parameters
    ----------
    image : Tensor, float32, shape (batch, channel, I, J, K). Regions, larger by the same number of voxels on both sides
        of an axis than the sub-volumes.
    label : Tensor, uint8, shape (batch, I, J, K).
    warp : Warp
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    flips : sequence of bool, optional. Which sub-volumes are mirrored; none by default.

    Returns
    -------
    image : Tensor, float32, shape (batch, channel, i, j, k)
    label : Tensor, uint8, shape (batch, i, j, k)
    """
    region = triple(image.shape[-3:])
    warped_image = image.new_empty(*image.shape[:2], *size)
    warped_label = label.new_empty(len(label), *size)
    centre = [slice((r - n) // 2, (r - n) // 2 + n) for r, n in zip(region, size, strict=True)]

    def resample(n: int, grid: SamplingGrid, rows: slice) -> None:
        coordinates = grid.coordinates(rows)
        warped_image[n, :, rows] = trilinear(image[n], coordinates).view_as(warped_image[n, :, rows])
        warped_label[n, rows] = nearest(label[n], coordinates).view_as(warped_label[n, rows])

    tasks: list[Callable[[], None]] = []
    for n, mirror in enumerate(flips or [False] * len(image)):
        if warp.is_identity(n):
            crop = image[n : n + 1, :, *centre], label[n : n + 1, *centre]
            warped_image[n : n + 1], warped_label[n : n + 1] = flip(*crop, [mirror])
        else:
            grid = SamplingGrid(warp, n, mirror, size, region)
            tasks += [functools.partial(resample, n, grid, rows) for rows in row_chunks(size)]
    run_parallel(tasks)
    return warped_image, warped_label


def flip(image: Tensor, label: Tensor, flips: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Mirror the chosen sub-volumes left-right, in new tensors."""
    if all(flips):
        return image.flip(LEFT_RIGHT_AXIS + 2), label.flip(LEFT_RIGHT_AXIS + 1)
    image, label = image.clone(), label.clone()
    for n, mirror in enumerate(flips):
        if mirror:
            image[n], label[n] = image[n].flip(LEFT_RIGHT_AXIS + 1), label[n].flip(LEFT_RIGHT_AXIS)
    return image, label


class SamplingGrid:
    """The coordinates in the region from which one warped sub-volume is read, computed a few rows along i at a time.

    Parameters
    ----------
    warp : Warp
    n : int. Index of the sub-volume in the batch.
    mirror : bool. Whether the sub-volume is mirrored left-right.
    size, region : tuple of int. Voxels of sub-volume and region along (i, j, k).
    """

    def __init__(self, warp: Warp, n: int, mirror: bool, size: Size3, region: Size3) -> None:
        i, j, k = (torch.arange(length) - (length - 1) / 2 for length in size)
        centre = (torch.tensor(region) - 1) / 2
        along_i, along_j, along_k = warp.matrix[n].T
        self.region = region
        self._i = along_i[:, None] * (i.flip(0) if mirror else i)  # (3, i)
        on_j, on_k = (centre + along_j * j[:, None]).T, along_k[:, None] * k
        self._jk = (on_j[:, :, None] + on_k[:, None]).flatten(1)  # (3, j * k)
        self._elastic = None
        if warp.control is not None and warp.is_elastic(n):
            rows, face = interpolation_factors(warp.control[n], size)
            self._elastic = (rows.flip(0) if mirror else rows, face)

    def coordinates(self, rows: slice) -> Tensor:
        """Coordinates of all voxels in these rows, float32 (3, rows * j * k), clamped to the region."""
        grid = self._jk[:, None] + self._i[:, rows, None]
        if self._elastic is not None:
            grid += self._elastic[0][rows] @ self._elastic[1]
        for axis, length in zip(grid, self.region, strict=True):
            axis.clamp_(0, length - 1)
        return grid.flatten(1)


def trilinear(image: Tensor, coordinates: Tensor) -> Tensor:
    """Interpolate an image trilinearly.

    Parameters
    ----------
    image : Tensor, float32, shape (channel, I, J, K)
    coordinates : Tensor, float32, shape (3, n). In voxels, inside the image; not written to.

    Returns
    -------
    Tensor, float32, shape (channel, n)
    """
    shape = triple(image.shape[1:])
    if min(shape) < 2:
        return _grid_sample(image, coordinates)
    _, j, k = shape
    low = coordinates.floor()
    for along, n in zip(low, shape, strict=True):
        along.clamp_(max=n - 2)
    first = _flat_indices(low, shape)
    part_i, part_j, part_k = torch.sub(coordinates, low, out=low)
    values = coordinates.new_empty(len(image), coordinates.shape[1])
    a, b, c = coordinates.new_empty(3, coordinates.shape[1])
    for voxels, value in zip(image.flatten(1), values, strict=True):  # eight corners: along k, then j, then i
        for face, near in ((0, value), (j * k, a)):
            for line, far in ((0, near), (k, b)):
                torch.index_select(voxels[face + line :], 0, first, out=far)
                torch.index_select(voxels[face + line + 1 :], 0, first, out=c)
                torch.lerp(far, c, part_k, out=far)
            torch.lerp(near, b, part_j, out=near)
        torch.lerp(value, a, part_i, out=value)
    return values


def nearest(label: Tensor, coordinates: Tensor) -> Tensor:
    """Values (n,) of a label map (I, J, K) at the nearest voxels; coordinates as for :func:`trilinear`."""
    return label.flatten().index_select(0, _flat_indices(coordinates.round(), triple(label.shape)))


def _grid_sample(image: Tensor, coordinates: Tensor) -> Tensor:
    """The result of :func:`trilinear` by torch's operator, for images of any shape."""
    last = torch.tensor([max(n - 1, 1) for n in image.shape[1:]])
    grid = coordinates.mul(2 / last[:, None]).sub_(1).flip(0).T  # x, y, z are k, j, i, from -1 to 1
    values = F.grid_sample(image[None], grid[None, None, None], padding_mode="border", align_corners=True)
    return values.view(len(image), -1)


def _flat_indices(voxels: Tensor, shape: Size3) -> Tensor:
    """Indices (n,) into a flattened volume, from whole voxels (3, n) as float32."""
    exact = math.prod(shape) <= EXACT_VOXELS
    i, j, k = voxels if exact else voxels.double()
    return torch.add(j, i, alpha=shape[1]).mul_(shape[2]).add_(k).to(torch.int32 if exact else torch.int64)


def _rotation_matrices(angles: Tensor) -> Tensor:
    """Rotation matrices (batch, 3, 3) from angles about i, j and k in radians (batch, 3)."""
    sine, cosine = angles.sin(), angles.cos()
    result = torch.eye(3).expand(len(angles), 3, 3)
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        rotation = torch.eye(3).repeat(len(angles), 1, 1)
        rotation[:, first, first] = rotation[:, second, second] = cosine[:, axis]
        rotation[:, first, second], rotation[:, second, first] = -sine[:, axis], sine[:, axis]
        result = result @ rotation
    return result
