"""Training in fp16: an overflow skips a step and lowers the scale, a non-finite loss ends the run as in fp32."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.checkpointing.checkpoint import load
from core.config import LossConfig, ModelConfig, OptimConfig
from core.events import Ended, Event
from core.losses.build import build_loss
from core.models.build import build_model
from core.training.step import TrainingStep
from core.training.trainer import fit
from tests.core.training.test_step import batch, weights
from tests.support.balls import tiny
from tests.support.training_tasks import checkpoint_tensors, equal_tensors, make_task, stop_after

LARGEST_SCALE = 2.0**126  # any gradient overflows


def make_step(precision: str = "fp16", **optim: object) -> TrainingStep:
    torch.manual_seed(0)
    model = build_model(ModelConfig(channels=(4, 8), norm="instance", downsampling="stride", widening="after"), 1, 3)
    config = OptimConfig(**{"optimizer": "sgd", "learning_rate": 0.1, **optim})  # type: ignore[arg-type]
    return TrainingStep(model, build_loss(LossConfig(loss="dice_ce")), config, precision)


def set_scale(step: TrainingStep, scale: float) -> None:
    step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": scale})


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon", "rmsprop"])
def test_overflow_skips_the_step_and_halves_the_scale(optimizer: str) -> None:
    step = make_step(optimizer=optimizer, clip_norm=1.0)
    step([batch(1)], 0.01, 0)
    before = weights(step)
    set_scale(step, LARGEST_SCALE)
    step([batch(2)], 0.01, 1)
    assert same(weights(step), before)
    assert step.scaler.get_scale() == LARGEST_SCALE / 2
    loss, failed = step.read_loss()
    assert failed is None and math.isfinite(loss)
    set_scale(step, 1024.0)
    step([batch(2)], 0.01, 2)
    assert not same(weights(step), before) and step.scaler.get_scale() == 1024.0


@pytest.mark.slow
def test_non_finite_loss_stops_all_later_updates() -> None:
    step = make_step()
    step([batch(1)], 0.01, 4)
    before = weights(step)
    image, label = batch(2)
    step([(image * math.nan, label)], 0.01, 5)
    step([batch(3)], 0.01, 6)
    assert step.read_loss()[1] == 5 and same(weights(step), before)


@pytest.mark.slow
def test_gradient_that_overflows_at_the_lowest_scale_is_a_failure() -> None:
    step = make_step()
    set_scale(step, 1.0)
    real = step.loss
    # A finite loss whose gradient is infinite: the square root at 0.
    step.loss = lambda output, label: real(output, label) + (real(output, label) * 0).sqrt()
    before = weights(step)
    step([batch(1)], 0.01, 7)
    assert step.read_loss()[1] == 7 and same(weights(step), before)


@pytest.mark.slow
def test_steps_are_those_of_fp32_within_its_precision() -> None:
    half, full = make_step(), make_step("fp32")
    for number in range(5):
        for step in (half, full):
            step([batch(number)], 0.05, number)
    assert half.read_loss()[0] == pytest.approx(full.read_loss()[0], abs=5e-3)
    for p, q in zip(weights(half), weights(full), strict=True):
        torch.testing.assert_close(p, q, rtol=0.02, atol=5e-3)


@pytest.mark.long  # CPUs compute fp16 slowly
def test_resumed_run_continues_with_its_scale(tmp_path: Path) -> None:
    config = tiny(epochs=2, whole_every=0, samples_train=4, samples_val=0, precision="fp16")
    fit(make_task(tmp_path / "whole", config), lambda event: None)
    folder, events = tmp_path / "stopped", list[Event]()
    fit(make_task(folder, config), events.append, should_stop=stop_after(3))
    stopped = load(folder / "last.safetensors", training_state=True)
    assert stopped.metadata.progress["grad_scaler"]["_growth_tracker"] == 3
    fit(make_task(folder, config), events.append, resume=stopped)
    assert isinstance(events[-1], Ended) and events[-1].reason == "finished"
    expected = checkpoint_tensors(tmp_path / "whole" / "last.safetensors")
    assert equal_tensors(checkpoint_tensors(folder / "last.safetensors"), expected)
    scaler = load(folder / "last.safetensors").metadata.progress["grad_scaler"]
    assert scaler == load(tmp_path / "whole" / "last.safetensors").metadata.progress["grad_scaler"]
