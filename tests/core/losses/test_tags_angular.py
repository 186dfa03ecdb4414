"""The angular loss against angles by hand."""

from __future__ import annotations

import math

import pytest
import torch

from core.losses.labelled import Labelled
from core.losses.tags_angular import tags_angular
from tests.support.loss_cases import labels


def logits_of(*voxels: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(voxels).T.reshape(1, -1, len(voxels), 1, 1)


def test_mean_squared_angle_by_hand() -> None:
    logits = logits_of((3.0, 0.0), (2.0, 2.0), (0.0, 5.0), (-1.0, 0.0))
    angles = (0, math.pi / 4, math.pi / 2, math.pi)
    value = tags_angular(Labelled.of(logits, labels(0, 0, 0, 0)))
    assert value.item() == pytest.approx(sum(a * a for a in angles) / 4, abs=2e-3)


def test_the_length_of_the_logits_does_not_matter() -> None:
    logits = logits_of((0.3, 0.4, -0.2), (1.0, -0.5, 0.1))
    target = labels(0, 1)
    one, ten = (tags_angular(Labelled.of(logits * factor, target)).item() for factor in (1, 10))
    assert one == pytest.approx(ten, abs=1e-4)


def test_gradient_is_at_right_angles_to_the_logits() -> None:
    logits = logits_of((0.3, 0.4, -0.2)).requires_grad_()
    tags_angular(Labelled.of(logits, labels(0))).backward()
    assert logits.grad is not None
    assert (logits.grad * logits.detach()).sum().item() == pytest.approx(0, abs=1e-4)
    assert logits.grad.norm() > 0.5


def test_gradient_of_vanishing_logits_is_bounded() -> None:
    logits = torch.zeros(1, 3, 1, 1, 1, requires_grad=True)
    tags_angular(Labelled.of(logits, labels(1))).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e4
