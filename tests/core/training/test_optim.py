"""Learning-rate schedules, guarded steps, moving averages and resumed optimizers, by hand and against torch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.config import OptimConfig
from core.training.optim import (
    ExponentialMovingAverage,
    averaged_weights,
    build_optimizer,
    learning_rate_at,
    load_optimizer_tensors,
    optimizer_tensors,
    step_if_finite,
)

KINDS = {
    "sgd": OptimConfig(optimizer="sgd", learning_rate=0.1),
    "sgd with momentum": OptimConfig(optimizer="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.01),
    "adam": OptimConfig(optimizer="adam", learning_rate=0.01, weight_decay=0.01),
    "adamw": OptimConfig(optimizer="adamw", learning_rate=0.01, weight_decay=0.1),
    "muon": OptimConfig(optimizer="muon", learning_rate=0.01, momentum=0.9, weight_decay=0.1),
    "rmsprop": OptimConfig(optimizer="rmsprop", learning_rate=0.01, momentum=0.9),
}
all_kinds = pytest.mark.parametrize("kind", KINDS)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.Conv3d(3, 3, 1), nn.Conv3d(3, 2, 1))


def set_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, clip_norm: float = 0.0) -> float:
    set_gradients(model, seed)
    return step_if_finite(optimizer, list(model.parameters()), clip_norm).item()


def nonfinite_step(model: nn.Module, optimizer: torch.optim.Optimizer, value: float, clip_norm: float = 0.0) -> float:
    """A step with a single non-finite number in the gradient."""
    set_gradients(model, seed=99)
    last = list(model.parameters())[-1]
    assert last.grad is not None
    last.grad[0] = value
    return step_if_finite(optimizer, list(model.parameters()), clip_norm).item()


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    values = {f"model/{k}": v.clone() for k, v in model.state_dict().items()}
    return values | {
        f"optimizer/{index}/{k}": v.clone()
        for index, state in optimizer_tensors(optimizer, model).items()
        for k, v in state.items()
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# --- learning rate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("constant", 0.0, 1), ("constant", 0.7, 1), ("constant", 1.0, 1),
        ("cosine", 0.0, 1), ("cosine", 1 / 3, 0.75), ("cosine", 0.5, 0.5), ("cosine", 2 / 3, 0.25), ("cosine", 1.0, 0),
        ("poly", 0.0, 1), ("poly", 0.5, 0.535887), ("poly", 0.9, 0.125893), ("poly", 1.0, 0),
        ("cosine", -0.1, 1), ("cosine", 1.5, 0), ("poly", 7.0, 0),
        ("trapezoid", 0.0, 1), ("trapezoid", 0.5, 1), ("trapezoid", 0.75, 0.5), ("trapezoid", 1.0, 0),
        ("one_cycle", 0.0, 0.04), ("one_cycle", 0.15, 0.52), ("one_cycle", 0.3, 1), ("one_cycle", 0.65, 0.5),
        ("one_cycle", 1.0, 0),
    ],
)  # fmt: skip
def test_schedules_by_hand(schedule: Any, progress: float, factor: float) -> None:
    config = OptimConfig(learning_rate=0.02, lr_schedule=schedule)
    assert learning_rate_at(config, progress) == pytest.approx(0.02 * factor, abs=1e-8)


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("constant", 0.0, 0.01), ("constant", 0.05, 0.25), ("constant", 0.1, 0.5), ("constant", 0.2, 1),
        ("cosine", 0.15, 0.75), ("cosine", 0.2, 1), ("cosine", 0.6, 0.5), ("cosine", 1.0, 0),
        ("poly", 0.001, 0.01), ("poly", 0.6, 0.535887), ("poly", 1.0, 0),
    ],
)  # fmt: skip
def test_warm_up_by_hand(schedule: Any, progress: float, factor: float) -> None:
    config = OptimConfig(learning_rate=0.02, lr_schedule=schedule, warmup=0.2)
    assert learning_rate_at(config, progress) == pytest.approx(0.02 * factor, abs=1e-8)


# --- optimizers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "momentum"),
    [
        ("sgd", torch.optim.SGD, 0.8),
        ("adam", torch.optim.Adam, None),
        ("adamw", torch.optim.AdamW, None),
        ("rmsprop", torch.optim.RMSprop, 0.8),
    ],
)
def test_optimizer_has_the_configured_hyperparameters(name: Any, kind: type, momentum: float | None) -> None:
    config = OptimConfig(optimizer=name, learning_rate=0.03, momentum=0.8, weight_decay=0.007)
    optimizer = build_optimizer(network(), config)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.03, 0.007)
    assert group.get("momentum") == momentum
    assert bool(group.get("fused")) == (name != "rmsprop")


def test_frozen_parameters_are_not_optimised() -> None:
    model = network()
    next(model.parameters()).requires_grad_(False)
    (group,) = build_optimizer(model, KINDS["adamw"]).param_groups
    assert len(group["params"]) == len(list(model.parameters())) - 1


def test_sgd_with_momentum_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = build_optimizer(model, OptimConfig(learning_rate=0.1, momentum=0.5, weight_decay=0.0))
    found = []
    for gradient in (1.0, 2.0):
        model.weight.grad = torch.full((1, 1), gradient)
        step_if_finite(optimizer, list(model.parameters()), 0.0)
        found.append(model.weight.item())
    assert found == pytest.approx([1 - 0.1 * 1, 0.9 - 0.1 * (0.5 * 1 + 2)], abs=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "muon"])  # compared in test_muon.py
def test_steps_equal_those_of_torch(kind: str) -> None:
    plain = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    config = KINDS[kind]
    mine, theirs = network(), network()
    optimizer = build_optimizer(mine, config)
    options: dict[str, Any] = dict(lr=config.learning_rate, weight_decay=config.weight_decay)
    if config.optimizer in ("sgd", "rmsprop"):
        options["momentum"] = config.momentum
    peer = plain.get(config.optimizer, torch.optim.RMSprop)(theirs.parameters(), **options)
    for seed in range(4):
        assert step(mine, optimizer, seed) == 0.0
        set_gradients(theirs, seed)
        peer.step()
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


# --- guarded steps ----------------------------------------------------------------------------------------------------


@all_kinds
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_nonfinite_gradient_changes_neither_weights_nor_state(kind: str, value: float, clip_norm: float) -> None:
    model = network()
    optimizer = build_optimizer(model, KINDS[kind])
    for seed in range(2):
        assert step(model, optimizer, seed, clip_norm) == 0.0
    before = snapshot(model, optimizer)
    assert nonfinite_step(model, optimizer, value, clip_norm) == 1.0
    assert same(snapshot(model, optimizer), before)
    assert step(model, optimizer, 2, clip_norm) == 0.0
    assert not same(snapshot(model, optimizer), before)


@all_kinds
def test_nonfinite_first_gradient_changes_nothing(kind: str) -> None:
    spoiled, clean = network(), network()
    one, other = build_optimizer(spoiled, KINDS[kind]), build_optimizer(clean, KINDS[kind])
    assert nonfinite_step(spoiled, one, math.nan) == 1.0
    assert same(spoiled.state_dict(), clean.state_dict())
    for seed in range(2):
        step(spoiled, one, seed)
        step(clean, other, seed)
    assert same(snapshot(spoiled, one), snapshot(clean, other))


@all_kinds
def test_guard_holds_where_the_kernels_of_a_device_ignore_found_inf(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded, fused = network(), network()
    one, other = build_optimizer(guarded, KINDS[kind]), build_optimizer(fused, KINDS[kind])
    step(fused, other, 0)
    monkeypatch.setattr("core.training.optim.FOUND_INF_IGNORED", ("cpu",))
    assert nonfinite_step(guarded, one, math.nan) == 1.0
    assert step(guarded, one, 0) == 0.0
    assert nonfinite_step(guarded, one, math.inf) == 1.0
    assert getattr(one, "found_inf", None) is None, "nothing is left to kernels"
    assert same(snapshot(guarded, one), snapshot(fused, other))


@pytest.mark.parametrize(("clip_norm", "expected"), [(0.5, 0.5), (2.0, 2.0), (1e6, None), (0.0, None)])
def test_clip_norm_limits_the_norm_and_keeps_the_direction(clip_norm: float, expected: float | None) -> None:
    model = network()
    set_gradients(model, seed=0)
    before = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    start = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    config = OptimConfig(learning_rate=0.5, weight_decay=0.0)
    step_if_finite(build_optimizer(model, config), list(model.parameters()), clip_norm)
    moved = (start - torch.cat([p.detach().flatten() for p in model.parameters()])) / 0.5
    factor = 1.0 if expected is None else expected / before.norm().item()
    torch.testing.assert_close(moved, before * factor, rtol=1e-4, atol=1e-5)
    assert moved.norm().item() == pytest.approx(before.norm().item() if expected is None else expected, rel=1e-4)


def test_clipped_norm_is_that_of_all_parameters_together() -> None:
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    one.grad, other.grad = torch.tensor([3.0]), torch.tensor([4.0])
    step_if_finite(torch.optim.SGD([one, other], lr=1.0, fused=True), [one, other], clip_norm=1.0)
    assert (one.item(), other.item()) == pytest.approx((-0.6, -0.8), abs=1e-5)


def test_parameter_without_gradient_does_not_change() -> None:
    model = network()
    optimizer = build_optimizer(model, KINDS["adamw"])
    first, *rest = model.parameters()
    set_gradients(model, seed=0)
    first.grad = None
    before = first.detach().clone()
    assert step_if_finite(optimizer, [first, *rest], 1.0).item() == 0.0
    assert torch.equal(first, before)


# --- moving average ---------------------------------------------------------------------------------------------------


def test_moving_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 10.0)
    ema = ExponentialMovingAverage(model, decay=0.2)
    found = []
    for value in (0.0, 20.0, 4.0):
        nn.init.constant_(model.weight, value)
        ema.update()
        found.append(ema.values["weight"].item())
    # Decays: min(0.2, 2/11), min(0.2, 3/12) = 0.2, 0.2.
    first = 10 * 2 / 11
    second = 0.2 * first + 0.8 * 20
    assert found == pytest.approx([first, second, 0.2 * second + 0.8 * 4], rel=1e-5)
    assert ema.updates == 3
    assert model.weight.item() == 4.0


def test_moving_average_reaches_its_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = ExponentialMovingAverage(model, decay=0.9, updates=10_000)
    nn.init.ones_(model.weight)
    ema.update()
    assert ema.values["weight"].item() == pytest.approx(0.1, rel=1e-4)


def test_weights_that_layers_share_are_averaged_under_each_name() -> None:
    first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    average = ExponentialMovingAverage(model, 0.9)
    with torch.no_grad():
        first.weight.add_(1)
    average.update()
    assert torch.equal(average.values["0.weight"], average.values["1.weight"])
    with averaged_weights(model, average):
        assert torch.equal(first.weight, average.values["0.weight"])


def test_buffers_are_copied() -> None:
    model = network()
    ema = ExponentialMovingAverage(model, decay=0.99)
    initial = model[1].weight.detach().clone()  # type: ignore[index]
    with torch.no_grad():
        model(torch.randn(2, 1, 5, 5, 5, generator=torch.Generator().manual_seed(0)))
        model[1].weight.add_(1)  # type: ignore[index]
    ema.update()
    now = model.state_dict()
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(ema.values[name], now[name]), name
        assert ema.values[name].data_ptr() != now[name].data_ptr()
    assert ema.values["1.num_batches_tracked"].item() == 1
    torch.testing.assert_close(ema.values["1.weight"], initial + 9 / 11)
    model.load_state_dict(ema.values)


def test_resumed_moving_average_continues_exactly() -> None:
    model = network()
    optimizer = build_optimizer(model, KINDS["adamw"])
    ema = ExponentialMovingAverage(model, decay=0.9)
    for seed in range(3):
        step(model, optimizer, seed)
        ema.update()
    resumed = ExponentialMovingAverage(model, decay=0.9, updates=ema.updates)
    resumed.load({k: v.clone() for k, v in ema.values.items()})
    step(model, optimizer, 3)
    ema.update()
    resumed.update()
    assert same(resumed.values, ema.values)


# --- resuming ---------------------------------------------------------------------------------------------------------


@all_kinds
@pytest.mark.parametrize("steps_before", [0, 3])
def test_resumed_optimizer_takes_the_same_steps(kind: str, steps_before: int) -> None:
    model, resumed = network(), network(seed=1)
    optimizer = build_optimizer(model, KINDS[kind])
    for seed in range(steps_before):
        step(model, optimizer, seed)
    stored = {
        index: {k: v.clone() for k, v in state.items()} for index, state in optimizer_tensors(optimizer, model).items()
    }
    resumed.load_state_dict(model.state_dict())
    again = build_optimizer(resumed, KINDS[kind])
    load_optimizer_tensors(again, resumed, stored)
    assert same(snapshot(resumed, again), snapshot(model, optimizer))
    for seed in range(steps_before, steps_before + 3):
        step(model, optimizer, seed)
        step(resumed, again, seed)
        assert same(snapshot(resumed, again), snapshot(model, optimizer))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rmsprop"])  # which keeps its step count on the CPU
def test_loaded_state_is_on_the_device_of_the_weights(kind: str) -> None:
    """The meta device stands in for a GPU. Torch leaves the step count on the CPU unless the optimizer is fused."""
    model = network()
    optimizer = build_optimizer(model, KINDS[kind])
    step(model, optimizer, 0)
    elsewhere = network().to("meta")
    resumed = build_optimizer(elsewhere, KINDS[kind])
    load_optimizer_tensors(resumed, elsewhere, optimizer_tensors(optimizer, model))
    assert {t.device.type for state in resumed.state.values() for t in state.values()} <= {"meta"}
    assert len(resumed.state) == len(optimizer.state)


def test_learning_rate_is_configured_not_restored() -> None:
    model = network()
    optimizer = build_optimizer(model, KINDS["adam"])
    step(model, optimizer, 0)
    lower = build_optimizer(model, OptimConfig(optimizer="adam", learning_rate=1e-5))
    load_optimizer_tensors(lower, model, optimizer_tensors(optimizer, model))
    assert lower.param_groups[0]["lr"] == 1e-5
