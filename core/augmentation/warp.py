"""Moves sub-volumes: rotation, scaling and elastic deformation are one displacement field and one interpolation, image
trilinear, label nearest neighbour, so no label value is invented; and mirroring.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.augmentation.intensity import slabs, spread
from core.compute.threads import run_parallel
from core.config import AugmentConfig
from core.types import Size3, triple

ELASTIC_SPACING = 10  # voxels between the control points of the elastic deformation
FLIP_AXIS = 0  # i runs from left to right in RAS
EXACT_VOXELS = 2**24  # as far as float32 counts them one by one


@dataclass(frozen=True)
class Warp:
    """How each sub-volume of a batch is moved: matrices (batch, 3, 3) in voxels about the centre, and elastic
    control-point displacements (batch, 3, a, b, c) in voxels, or ``None``."""

    matrix: Tensor
    control: Tensor | None

    def margin(self, size: Size3) -> Size3:
        """How many voxels beyond each side of a sub-volume of ``size`` are read, along i, j and k."""
        half = (torch.tensor(size, dtype=torch.float32) - 1) / 2
        beyond = (self.matrix.abs() @ half - half).amax(dim=0).clamp_min(0)
        if self.control is not None:
            beyond = beyond + self.control.abs().amax(dim=(0, 2, 3, 4))
        i, j, k = (math.ceil(voxels) + 1 for voxels in beyond.tolist())
        return i, j, k

    def bends(self, n: int) -> bool:
        """Whether a sub-volume is deformed."""
        return self.control is not None and bool(self.control[n].any())

    def still(self, n: int) -> bool:
        """Whether a sub-volume is not moved at all."""
        return not self.bends(n) and torch.equal(self.matrix[n], torch.eye(3))


def draw_warp(config: AugmentConfig, size: Size3, batch: int, generator: torch.Generator) -> Warp | None:
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


def apply_warp(
    image: Tensor, label: Tensor, warp: Warp, size: Size3, flips: Sequence[bool] | None = None
) -> tuple[Tensor, Tensor]:
    """Read a warped sub-volume of ``size`` from the middle of a larger region, mirrored where that is wanted; piece by
    piece, on a CPU.

    What is not moved is copied. Beyond the region its outermost voxels go on.

    Parameters
    ----------
    image : float32 (batch, channel, I, J, K), the region, larger by the same number of voxels on both sides of an axis.
    label : uint8 (batch, I, J, K).
    flips : for each sub-volume whether it is mirrored; not if not given.
    """
    region = triple(image.shape[-3:])
    moved = image.new_empty(*image.shape[:2], *size)
    chosen = label.new_empty(len(label), *size)
    middle = [slice((r - n) // 2, (r - n) // 2 + n) for r, n in zip(region, size, strict=True)]

    def read(n: int, where: WhereToRead, rows: slice) -> None:
        voxels = where.of(rows)
        moved[n, :, rows] = trilinear(image[n], voxels).view_as(moved[n, :, rows])
        chosen[n, rows] = nearest(label[n], voxels).view_as(chosen[n, rows])

    works = []
    for n, mirror in enumerate(flips or [False] * len(image)):
        if warp.still(n):
            here = image[n : n + 1, :, *middle], label[n : n + 1, *middle]
            moved[n : n + 1], chosen[n : n + 1] = flip(*here, [mirror])
        else:
            where = WhereToRead(warp, n, mirror, size, region)
            works += [functools.partial(read, n, where, rows) for rows in slabs(size)]
    run_parallel(works)
    return moved, chosen


def flip(image: Tensor, label: Tensor, chosen: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Mirror left and right in the chosen sub-volumes; what was given is not written to."""
    if all(chosen):
        return image.flip(FLIP_AXIS + 2), label.flip(FLIP_AXIS + 1)
    image, label = image.clone(), label.clone()
    for n, mirror in enumerate(chosen):
        if mirror:
            image[n], label[n] = image[n].flip(FLIP_AXIS + 1), label[n].flip(FLIP_AXIS)
    return image, label


class WhereToRead:
    """Which voxels of the region a sub-volume's voxels are read from, a few rows along i at a time.

    Parameters
    ----------
    warp, n : of a batch and which of it.
    mirror : whether left and right are to change places.
    size, region : in voxels.
    """

    def __init__(self, warp: Warp, n: int, mirror: bool, size: Size3, region: Size3) -> None:
        i, j, k = (torch.arange(length) - (length - 1) / 2 for length in size)
        middle = (torch.tensor(region) - 1) / 2
        along_i, along_j, along_k = warp.matrix[n].T
        self.region = region
        self.i = along_i[:, None] * (i.flip(0) if mirror else i)  # (3, i)
        on_j, on_k = (middle + along_j * j[:, None]).T, along_k[:, None] * k
        self.jk = (on_j[:, :, None] + on_k[:, None]).flatten(1)  # (3, j * k)
        self.bend = None
        if warp.control is not None and warp.bends(n):
            rows, face = spread(warp.control[n], size)
            self.bend = (rows.flip(0) if mirror else rows, face)

    def of(self, rows: slice) -> Tensor:
        """Float32 (3, rows * j * k), none beyond the outermost voxels."""
        where = self.jk[:, None] + self.i[:, rows, None]
        if self.bend is not None:
            where += self.bend[0][rows] @ self.bend[1]
        for axis, length in zip(where, self.region, strict=True):
            axis.clamp_(0, length - 1)
        return where.flatten(1)


def trilinear(image: Tensor, where: Tensor) -> Tensor:
    """Values (channel, n) of an image, float32 (channel, I, J, K), between its voxels.

    Parameters
    ----------
    where : voxels (3, n), none beyond the outermost ones; not written to.
    """
    shape = triple(image.shape[1:])
    if min(shape) < 2:
        return _by_grid_sample(image, where)
    _, j, k = shape
    low = where.floor()
    for along, n in zip(low, shape, strict=True):
        along.clamp_(max=n - 2)
    first = _flat_index(low, shape)
    part_i, part_j, part_k = torch.sub(where, low, out=low)
    values = where.new_empty(len(image), where.shape[1])
    a, b, c = where.new_empty(3, where.shape[1])
    for voxels, value in zip(image.flatten(1), values, strict=True):  # eight corners: k, then j, then i
        for face, near in ((0, value), (j * k, a)):
            for line, far in ((0, near), (k, b)):
                torch.index_select(voxels[face + line :], 0, first, out=far)
                torch.index_select(voxels[face + line + 1 :], 0, first, out=c)
                torch.lerp(far, c, part_k, out=far)
            torch.lerp(near, b, part_j, out=near)
        torch.lerp(value, a, part_i, out=value)
    return values


def nearest(label: Tensor, where: Tensor) -> Tensor:
    """Values (n,) of a label map (I, J, K) at the voxels that are nearest to ``where``, as for :func:`trilinear`."""
    return label.flatten().index_select(0, _flat_index(where.round(), triple(label.shape)))


def _by_grid_sample(image: Tensor, where: Tensor) -> Tensor:
    """What :func:`trilinear` gives, for any shape."""
    last = torch.tensor([max(n - 1, 1) for n in image.shape[1:]])
    grid = where.mul(2 / last[:, None]).sub_(1).flip(0).T  # x, y, z are k, j, i, from -1 to 1
    found = F.grid_sample(image[None], grid[None, None, None], padding_mode="border", align_corners=True)
    return found.view(len(image), -1)


def _flat_index(voxels: Tensor, shape: Size3) -> Tensor:
    """Indices (n,) into a flattened volume from whole voxels (3, n), which are float32."""
    exact = math.prod(shape) <= EXACT_VOXELS
    i, j, k = voxels if exact else voxels.double()
    return torch.add(j, i, alpha=shape[1]).mul_(shape[2]).add_(k).to(torch.int32 if exact else torch.int64)


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
