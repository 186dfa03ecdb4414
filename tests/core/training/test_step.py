"""One update: what accumulation adds up, what a bad gradient closes, and what is left off costs nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from core.config import LossConfig, ModelConfig, OptimConfig
from core.models import build_model
from core.sampling.patches import Batch
from core.training.losses import build_loss
from core.training.step import TrainingStep


def batch(seed: int, size: int = 2) -> Batch:
    chance = torch.Generator().manual_seed(seed)
    image = torch.randn(size, 1, 8, 8, 8, generator=chance)
    return image, torch.randint(0, 3, (size, 8, 8, 8), generator=chance).to(torch.uint8)


def made(**optim: object) -> TrainingStep:
    torch.manual_seed(0)
    config = ModelConfig(
        channels=(4, 8), norm="instance", activation="leaky_relu", downsampling="stride", widening="after"
    )
    model = build_model(config, 1, 3)
    loss = build_loss(LossConfig(loss="dice_ce"))
    return TrainingStep(model, loss, OptimConfig(**{"optimizer": "sgd", "learning_rate": 0.1, **optim}), "fp32")  # type: ignore[arg-type]


def weights(step: TrainingStep) -> list[Tensor]:
    return [p.detach().clone() for p in step.model.parameters()]


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    """With a loss per sub-volume and statistics per sub-volume the gradients are the same."""
    parts, whole = made(accumulate=2), made()
    one, two = batch(1), batch(2)
    parts([one, two], 0.1, 0)
    whole([(torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]]))], 0.1, 0)
    for p, q in zip(weights(parts), weights(whole), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert parts.read()[0] == pytest.approx(whole.read()[0], rel=1e-5)


def test_the_mean_loss_is_that_of_the_steps_since_the_last_reset() -> None:
    step = made()
    expected = step.loss_of(*batch(1)).item()
    step([batch(1)], 0.1, 0)
    assert step.read() == (pytest.approx(expected, rel=1e-6), None)
    step.reset()
    expected = step.loss_of(*batch(3)).item()
    step([batch(3)], 0.0, 1)
    step([batch(3)], 0.0, 2)
    assert step.read()[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon", "rmsprop"])
def test_a_bad_gradient_closes_the_latch_for_good_and_its_step_is_known(optimizer: str) -> None:
    step = made(optimizer=optimizer, learning_rate=0.01)
    step([batch(1)], 0.01, 4)
    before = weights(step)
    image, label = batch(2)
    step([(image * math.nan, label)], 0.01, 5)
    step([batch(3)], 0.01, 6)
    assert step.read()[1] == 5
    assert all(torch.equal(p, q) for p, q in zip(weights(step), before, strict=True))


def test_every_group_gets_its_share_of_the_rate() -> None:
    step = made(optimizer="muon", learning_rate=0.02)
    step([batch(1)], 0.01, 0)
    assert [g["lr"] for g in step.optimizer.param_groups] == pytest.approx([0.01, 0.001])


def operators(step: TrainingStep) -> list[str]:
    step([batch(1)], 0.1, 0)  # state is made in the first
    with torch.profiler.profile() as profile:
        step([batch(1)], 0.1, 1)
    return [e.name for e in profile.events() if e.name.startswith("aten::")]


def test_options_that_are_off_cost_nothing() -> None:
    """Clipping, running average and accumulation: not one operator is run for what is switched off."""
    plain = operators(made())
    assert operators(made(clip_norm=0.0, ema=0.0, accumulate=1, momentum=0.0)) == plain
    assert not [name for name in plain if "lerp" in name or "clamp" in name or "clip" in name]
    assert len(operators(made(clip_norm=1.0))) > len(plain)
    assert [name for name in operators(made(ema=0.9)) if "lerp" in name]


def test_nothing_in_a_step_waits_for_the_device() -> None:
    """item() and the like are what would; the sgd step has none of them."""
    assert not [n for n in operators(made(clip_norm=1.0, ema=0.9)) if n in ("aten::item", "aten::_local_scalar_dense")]
