"""Logits with their target, checked once: what every loss is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.labels import IGNORE_INDEX


@dataclass(frozen=True)
class Labelled:
    """Logits and target of a batch of sub-volumes.

    Attributes
    ----------
    logits : Tensor, float32, shape (batch, class, i, j, k).
    onehot : Tensor, bool, same shape. The target; a voxel whose target is no class is false everywhere.
    counted : Tensor, bool, shape (batch, 1, i, j, k), or None. Voxels that are not ignored; ``None`` where the data has
        no ignore label.
    step : int. Side of a voxel, in voxels of the image: 2^n on level n of deep supervision.
    overlapping : bool. Whether the channels are regions, which may overlap, instead of classes of which each voxel has
        one: there is no background among them, and probabilities are sigmoids.
    """

    logits: Tensor
    onehot: Tensor
    counted: Tensor | None = None
    step: int = 1
    overlapping: bool = False

    @classmethod
    def of(
        cls,
        logits: Tensor,
        target: Tensor,
        ignore: bool = False,
        step: int = 1,
        regions: Sequence[Sequence[int]] = (),
    ) -> Labelled:
        """Check shapes and types, without reading values (no synchronisation with the device).

        Parameters
        ----------
        logits : Tensor, floating, shape (batch, class, i, j, k). Taken as float32: sums in float16 overflow, sums in
            bfloat16 have errors of 5e-4.
        target : Tensor, integer, shape (batch, i, j, k). Class indices; a voxel with another value belongs to no class.
        ignore : bool. Whether voxels with :data:`core.labels.IGNORE_INDEX` are left out.
        step : int. Side of a voxel.
        regions : sequence of sequence of int. Class indices of each region, one per channel of the logits; none where
            the channels are the classes.

        Raises
        ------
        ValueError
            If shapes or types do not match, or there is no voxel.
        """
        _check(logits, target)
        onehot = _inside(logits, target, regions) if regions else _onehot(logits, target)
        counted = (target != IGNORE_INDEX)[:, None] if ignore else None
        return cls(logits.float(), onehot, counted, step, bool(regions))

    @property
    def probabilities(self) -> Tensor:
        """The softmax of the logits over classes, or sigmoid for regions, of the shape of the logits."""
        return torch.sigmoid(self.logits) if self.overlapping else torch.softmax(self.logits, dim=1)

    def foreground(self, values: Tensor) -> Tensor:
        """Values (batch, class, i, j, k) without those of the background, which regions do not have."""
        return values if self.overlapping else values[:, 1:]

    @property
    def voxels(self) -> Tensor | int:
        """Number of voxels that are not ignored, at least 1."""
        return self.onehot[:, 0].numel() if self.counted is None else self.counted.sum().clamp_min(1)

    def without_ignored(self, values: Tensor) -> Tensor:
        """Values (batch, class, i, j, k) with 0, and no gradient, in ignored voxels."""
        return values if self.counted is None else torch.where(self.counted, values, 0.0)

    def log_likelihood(self, log_probabilities: Tensor) -> Tensor:
        """The log-probability of each voxel's own class and 0 elsewhere, shape (batch, class, i, j, k).

        Not ``nll_loss``, which has no deterministic CUDA forward in 3D; ``where`` because -inf times 0 is NaN.
        """
        return torch.where(self.onehot, log_probabilities, 0.0)


def _check(logits: Tensor, target: Tensor) -> None:
    """Refuse logits and targets whose shapes or types do not match."""
    if logits.ndim != 5 or not logits.is_floating_point():
        raise ValueError(
            f"expected floating logits (batch, classes, i, j, k), got {logits.dtype} of shape {tuple(logits.shape)}"
        )
    expected = (logits.shape[0], *logits.shape[2:])
    if tuple(target.shape) != expected:
        raise ValueError(
            f"expected a target of shape {expected} for logits of shape {tuple(logits.shape)}, "
            f"got {tuple(target.shape)}"
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"expected a target of integer class indices, got {target.dtype}")
    if logits.numel() == 0:
        raise ValueError(f"expected at least one voxel, got logits of shape {tuple(logits.shape)}")


def _onehot(logits: Tensor, target: Tensor) -> Tensor:
    """The target as bool (batch, class, i, j, k)."""
    classes = torch.arange(logits.shape[1], device=target.device, dtype=target.dtype)
    return target[:, None] == classes.view(1, -1, 1, 1, 1)


def _inside(logits: Tensor, target: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Whether the class of each voxel is one of those of each region, bool, shape (batch, region, i, j, k)."""
    if len(regions) != logits.shape[1]:
        raise ValueError(f"expected logits of {len(regions)} regions, got {logits.shape[1]} channels")
    masks = []
    for first, *others in regions:
        inside = target == first
        for index in others:
            inside = inside | (target == index)
        masks.append(inside)
    return torch.stack(masks, dim=1)
