"""One optimizer step: gradient accumulation, non-finite gradients, and options that are off cost nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.config import LossConfig, ModelConfig, OptimConfig
from core.losses import LOSSES
from core.losses.build import build_loss
from core.models.build import build_model
from core.sampling.patches import Batch
from core.training.step import TrainingStep

NEEDS_FACTS = ("weighted_ce", "boundary")  # of the training data


def batch(seed: int, size: int = 2) -> Batch:
    chance = torch.Generator().manual_seed(seed)
    image = torch.randn(size, 1, 8, 8, 8, generator=chance)
    return image, torch.randint(0, 3, (size, 8, 8, 8), generator=chance).to(torch.uint8)


def make_step(**optim: object) -> TrainingStep:
    torch.manual_seed(0)
    config = ModelConfig(
        channels=(4, 8), norm="instance", activation="leaky_relu", downsampling="stride", widening="after"
    )
    model = build_model(config, 1, 3)
    loss = build_loss(LossConfig(loss="dice_ce"))
    return TrainingStep(model, loss, OptimConfig(**{"optimizer": "sgd", "learning_rate": 0.1, **optim}), "fp32")  # type: ignore[arg-type]


def weights(step: TrainingStep) -> list[Tensor]:
    return [p.detach().clone() for p in step.model.parameters()]


@pytest.mark.slow
def test_accumulated_batches_equal_one_large_batch() -> None:
    """Loss and normalisation are per sub-volume, so the gradients are the same."""
    parts, whole = make_step(accumulate=2), make_step()
    one, two = batch(1), batch(2)
    parts([one, two], 0.1, 0)
    whole([(torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]]))], 0.1, 0)
    for p, q in zip(weights(parts), weights(whole), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert parts.read_loss()[0] == pytest.approx(whole.read_loss()[0], rel=1e-5)


@pytest.mark.slow
def test_mean_loss_is_over_the_steps_since_the_last_reset() -> None:
    step = make_step()
    expected = step.compute_loss(*batch(1)).item()
    step([batch(1)], 0.1, 0)
    assert step.read_loss() == (pytest.approx(expected, rel=1e-6), None)
    step.reset_loss()
    expected = step.compute_loss(*batch(3)).item()
    step([batch(3)], 0.0, 1)
    step([batch(3)], 0.0, 2)
    assert step.read_loss()[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon", "rmsprop"])
def test_nonfinite_gradient_stops_all_later_updates_and_its_step_is_known(optimizer: str) -> None:
    step = make_step(optimizer=optimizer, learning_rate=0.01)
    step([batch(1)], 0.01, 4)
    before = weights(step)
    image, label = batch(2)
    step([(image * math.nan, label)], 0.01, 5)
    step([batch(3)], 0.01, 6)
    assert step.read_loss()[1] == 5
    assert all(torch.equal(p, q) for p, q in zip(weights(step), before, strict=True))


def test_learning_rate_is_scaled_per_parameter_group() -> None:
    step = make_step(optimizer="muon", learning_rate=0.02)
    step([batch(1)], 0.01, 0)
    assert [g["lr"] for g in step.optimizer.param_groups] == pytest.approx([0.01, 0.001])


def operators(step: TrainingStep) -> list[str]:
    step([batch(1)], 0.1, 0)  # which allocates the optimizer state
    with torch.profiler.profile() as profile:
        step([batch(1)], 0.1, 1)
    return [e.name for e in profile.events() if e.name.startswith("aten::")]


@pytest.mark.slow
def test_options_that_are_off_do_no_work() -> None:
    """Clipping, moving average and accumulation run no operator where they are off."""
    plain = operators(make_step())
    assert operators(make_step(clip_norm=0.0, ema=0.0, accumulate=1, momentum=0.0)) == plain
    assert not [name for name in plain if "lerp" in name or "clamp" in name or "clip" in name]
    assert len(operators(make_step(clip_norm=1.0))) > len(plain)
    assert [name for name in operators(make_step(ema=0.9)) if "lerp" in name]


def test_step_never_synchronises_with_the_device() -> None:
    """item() and the like would; the SGD step has none of them."""
    assert not [
        n for n in operators(make_step(clip_norm=1.0, ema=0.9)) if n in ("aten::item", "aten::_local_scalar_dense")
    ]


class NoFloat64(TorchDispatchMode):
    """Refuses what an Apple GPU refuses: tensors in float64, but for scalars of Python on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in (t for t in tree_leaves(result) if isinstance(t, Tensor)):
            assert tensor.dtype != torch.float64, f"{func} made {tuple(tensor.shape)} in float64"
        return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [*((name, "muon") for name, entry in LOSSES.items() if not entry.extras and name not in NEEDS_FACTS),
     ("dice_ce", "adamw"), ("dice_ce", "sgd"), ("dice_ce", "rmsprop")],
)  # fmt: skip
def test_a_step_needs_no_float64_where_a_device_has_none(
    loss: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.training.step.wide_dtype", lambda device: torch.float32)
    step = make_step(optimizer=optimizer, clip_norm=1.0, ema=0.9)
    step.loss = build_loss(LossConfig(loss=loss))  # type: ignore[arg-type]
    with NoFloat64():
        step([batch(1)], 0.01, 0)
        mean, failed = step.read_loss()
    assert math.isfinite(mean) and failed is None
