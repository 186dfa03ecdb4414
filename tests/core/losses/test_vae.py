"""The auto-encoder's terms against numbers calculated by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from core.config import LossConfig
from core.losses.build import build_loss
from core.losses.vae import vae_terms
from core.models.blocks import NetworkOutput


def extras(batch: int = 1) -> dict[str, Tensor | tuple[Tensor, ...]]:
    """A perfect reconstruction, and a latent code of the standard normal distribution."""
    return {
        "image": torch.ones(batch, 1, 2, 2, 1),
        "reconstruction": torch.ones(batch, 1, 2, 2, 1),
        "mean": torch.zeros(batch, 3),
        "log_variance": torch.zeros(batch, 3),
    }


def test_terms_by_hand() -> None:
    assert vae_terms(extras()).item() == 0
    image = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2, 1)
    error = extras() | {"image": image, "reconstruction": image + torch.tensor(2.0)}
    assert vae_terms(error).item() == pytest.approx(0.1 * 4)
    mean = extras() | {"mean": torch.tensor([[1.0, 2.0, 0.0]])}
    assert vae_terms(mean).item() == pytest.approx(0.1 * (1 + 4) / 4), "divided by the four voxels"
    spread = extras() | {"log_variance": torch.tensor([[math.log(3.0), 0.0, 0.0]])}
    assert vae_terms(spread).item() == pytest.approx(0.1 * (3 - math.log(3) - 1) / 4)


def test_terms_are_averaged_over_the_batch() -> None:
    both = extras(2) | {"mean": torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])}
    assert vae_terms(both).item() == pytest.approx(0.1 * 5 / 4 / 2)


def test_gradient_leads_to_the_image_and_to_the_standard_normal_distribution() -> None:
    values = extras()
    reconstruction, mean = torch.zeros(1, 1, 2, 2, 1, requires_grad=True), torch.ones(1, 3, requires_grad=True)
    log_variance = torch.full((1, 3), -1.0, requires_grad=True)
    vae_terms(values | {"reconstruction": reconstruction, "mean": mean, "log_variance": log_variance}).backward()
    assert reconstruction.grad is not None and mean.grad is not None and log_variance.grad is not None
    torch.testing.assert_close(reconstruction.grad, torch.full((1, 1, 2, 2, 1), 0.1 * -2 / 4))
    torch.testing.assert_close(mean.grad, torch.full((1, 3), 0.1 * 2 / 4))
    torch.testing.assert_close(log_variance.grad, torch.full((1, 3), 0.1 * (math.exp(-1) - 1) / 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    large = extras() | {"reconstruction": torch.full((1, 1, 2, 2, 1), 300.0, dtype=dtype)}
    value = vae_terms(large)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0.1 * 299**2, rel=0.01), "the square is above the largest float16"


def test_loss_is_dice_plus_the_terms() -> None:
    logits, target = torch.randn(1, 2, 2, 2, 1), torch.tensor([0, 1, 1, 0]).view(1, 2, 2, 1)
    values = extras() | {"mean": torch.ones(1, 3)}
    config = LossConfig(loss="vae", include_background=False, dice_smooth=0.5)
    dice = build_loss(LossConfig(loss="dice", include_background=False, dice_smooth=0.5))(logits, target)
    total = build_loss(config)(NetworkOutput(logits, values), target)
    torch.testing.assert_close(total, dice + vae_terms(values))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"reconstruction: expected the shape \(1, 1, 2, 2, 1\)"):
        vae_terms(extras() | {"reconstruction": torch.ones(1, 1, 2, 2, 2)})
    with pytest.raises(ValueError, match=r"log_variance: expected the shape \(1, 3\)"):
        vae_terms(extras() | {"log_variance": torch.ones(1, 1)})
