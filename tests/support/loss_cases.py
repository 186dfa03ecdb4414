"""Logits and targets on which losses are tested."""

from __future__ import annotations

import torch
from torch import Tensor

CLASSES = 4


def random_case(seed: int = 0, shape: tuple[int, ...] = (2, CLASSES, 5, 6, 7)) -> tuple[Tensor, Tensor]:
    """Random logits and a target in which every sub-volume has every class."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape, generator=generator)
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    assert all(len(sample.unique()) == shape[1] for sample in target)
    return logits, target


def from_probabilities(*voxels: tuple[float, ...]) -> Tensor:
    """Logits (1, classes, voxels, 1, 1) whose softmax is the given probabilities, voxel by voxel."""
    return torch.tensor(voxels).T.reshape(1, -1, len(voxels), 1, 1).log()


def labels(*indices: int) -> Tensor:
    return torch.tensor(indices).reshape(1, -1, 1, 1)


def confident_logits(target: Tensor, classes: int, logit: float = 20.0) -> Tensor:
    """Logits of a confident prediction of the target."""
    return logit * torch.nn.functional.one_hot(target, classes).movedim(-1, 1).float()


def value_and_gradient(loss: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient
