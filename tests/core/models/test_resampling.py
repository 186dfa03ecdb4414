"""Resampling by matrices equals torch's operators, values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from core.compute.determinism import deterministic
from core.models.resampling import LinearUpsample2, average_resize, linear_resize
from core.types import Size3


@pytest.mark.parametrize("resize", [linear_resize, average_resize])
@pytest.mark.parametrize("size", [(4, 4, 4), (1, 7, 10), (12, 3, 5)])
def test_deterministic_form_equals_torchs(resize: Callable[[Tensor, Size3], Tensor], size: Size3) -> None:
    x = torch.randn(2, 3, 6, 3, 5, dtype=torch.float64)
    results = []
    for enabled in (False, True):
        leaf = x.clone().requires_grad_()
        with deterministic(enabled):
            y = resize(leaf, size)
            y.square().sum().backward()
        assert leaf.grad is not None
        results.append((y.detach(), leaf.grad))
    for value, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


def test_line_is_interpolated_between_voxel_centres() -> None:
    x = torch.tensor([0.0, 4.0]).view(1, 1, 2, 1, 1)
    for enabled in (False, True):
        with deterministic(enabled):
            y = LinearUpsample2()(x)
        assert y.shape == (1, 1, 4, 2, 2)
        torch.testing.assert_close(y[0, 0, :, 0, 0], torch.tensor([0.0, 1.0, 3.0, 4.0]))
