"""A step that is compiled or recorded trains as the plain one does; "auto" keeps what is faster.

There need be no GPU: a tape stands in for a CUDA graph. As a graph does, it keeps the operators of a block with the
very tensors that they read and wrote, runs them again on those alone, and allows nothing that waits for a value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.config import LossConfig, ModelConfig, OptimConfig
from core.errors import ConfigError
from core.models import build_model
from core.sampling.patches import Batch
from core.training.acceleration import PLAIN_STEPS, AutoLauncher, RecordedStep, accelerate
from core.training.losses import build_loss
from core.training.step import TrainingStep


class Tape(TorchDispatchMode):
    """What stands in for a CUDA graph."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, tensors(out)))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, before in self.calls:
            for old, new in zip(before, tensors(func(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class Stream:
    def wait_stream(self, other: Stream) -> None:
        """Everything is done in turn."""


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def record(tape: Tape, capture_error_mode: str) -> Iterator[None]:
        with tape:
            yield

    for name, value in {
        "CUDAGraph": Tape, "graph": record, "Stream": lambda device: Stream(),
        "current_stream": lambda device: Stream(), "stream": lambda stream: contextlib.nullcontext(),
        "empty_cache": lambda: None,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)


def batch(seed: int) -> Batch:
    chance = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 1, 8, 8, 8, generator=chance)
    return image, torch.randint(0, 3, (2, 8, 8, 8), generator=chance).to(torch.uint8)


def made(norm: str = "instance", **optim: object) -> TrainingStep:
    torch.manual_seed(0)
    config = ModelConfig(
        channels=(4, 8),
        norm=norm,
        activation="leaky_relu",
        downsampling="stride",
        widening="after",  # type: ignore[arg-type]
    )
    model = build_model(config, 1, 3)
    for name, p in model.named_parameters():
        # Normalisation takes these away: their gradient is rounding alone, of which Adam makes steps.
        p.requires_grad_(not name.endswith(".0.bias"))
    config = OptimConfig(**{"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, **optim})  # type: ignore[arg-type]
    return TrainingStep(model, build_loss(LossConfig(loss="dice_ce")), config, "fp32")


def train(step: TrainingStep, steps: int, bad: int | None = None) -> None:
    """Steps on other batches, at other rates."""
    for number in range(steps):
        image, label = batch(number)
        step([(image * torch.nan if number == bad else image, label)], 0.02 / (1 + number), number)


def assert_same(one: TrainingStep, other: TrainingStep) -> None:
    for (name, p), q in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=f"{name} differs")
    assert one.read() == (pytest.approx(other.read()[0], rel=1e-5, nan_ok=True), other.read()[1])
    if one.average is not None and other.average is not None:
        for key, value in one.average.values.items():
            torch.testing.assert_close(value, other.average.values[key], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_a_recorded_step_trains_as_the_plain_one(optimizer: str, norm: str) -> None:
    """At rates that change, with clipping and an average, from the first step on: recording itself moves nothing."""
    options = {"optimizer": optimizer, "clip_norm": 1.0, "ema": 0.9, "weight_decay": 0.01}
    plain, recorded = made(norm, **options), made(norm, **options)
    recorded.launch = RecordedStep(recorded)
    for step in (plain, recorded):
        train(step, 5)
    assert_same(recorded, plain)


@pytest.mark.usefixtures("taped")
def test_a_bad_gradient_closes_the_latch_of_a_recorded_step() -> None:
    plain, recorded = made(), made()
    recorded.launch = RecordedStep(recorded)
    for step in (plain, recorded):
        train(step, 4, bad=2)
        assert step.read()[1] == 2
    assert_same(recorded, plain)


@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_auto_keeps_what_is_faster(optimizer: str, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(self: AutoLauncher, launch: Any, batches: Sequence[Batch]) -> float:
        launch(batches)
        return 0.001 if isinstance(launch, RecordedStep) == quick else 0.002

    monkeypatch.setattr(AutoLauncher, "_seconds", seconds)
    told: list[str] = []
    plain, auto = made("batch", optimizer=optimizer, ema=0.9), made("batch", optimizer=optimizer, ema=0.9)
    auto.launch = AutoLauncher(auto, told.append)
    for step in (plain, auto):
        train(step, PLAIN_STEPS + 3)
    assert_same(auto, plain)
    assert isinstance(auto.launch, RecordedStep) == quick
    how = "as a CUDA graph" if quick else "one by one"
    times = ("1.00", "2.00") if quick else ("2.00", "1.00")
    assert told == [f"steps are launched {how}: {times[0]} ms as a CUDA graph, {times[1]} ms launched one by one"]
    assert all(isinstance(group["lr"], Tensor) == quick for group in auto.optimizer.param_groups)


@pytest.mark.usefixtures("taped")
def test_auto_goes_on_where_nothing_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that waits for a value cannot be."""
    told: list[str] = []
    plain, auto = made(), made()
    real = auto.loss
    auto.loss = lambda logits, target: real(logits, target) * float(logits.isfinite().all())
    auto.launch = AutoLauncher(auto, told.append)
    for step in (plain, auto):
        train(step, PLAIN_STEPS + 3)
    assert_same(auto, plain)
    reason = "operation not permitted when stream is capturing"
    assert told == [f"steps are launched one by one: a CUDA graph could not be recorded ({reason})"]
    assert all(isinstance(group["lr"], float) for group in auto.optimizer.param_groups)


@pytest.mark.slow
def test_a_compiled_step_computes_the_same() -> None:
    plain, compiled = made(), made()
    accelerate(compiled, "compile")
    for step in (plain, compiled):
        train(step, 2)
    for p, q in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_on_a_cpu_auto_is_the_plain_step() -> None:
    step = made()
    accelerate(step, "auto")
    assert step.launch == step.compute


@pytest.mark.parametrize("how", ["graph", "compiled_graph"])
def test_a_graph_needs_a_cuda_device(how: Any) -> None:
    with pytest.raises(ConfigError, match=f"acceleration: expected none, compile or auto on a CPU, got {how}"):
        accelerate(made(), how)


@pytest.mark.parametrize(
    ("optim", "why"),
    [({"accumulate": 2}, "with accumulate 1, found 2"), ({"optimizer": "rmsprop"}, "with any optimizer but rmsprop")],
)
def test_what_no_graph_is_recorded_of(optim: dict[str, Any], why: str) -> None:
    step = made(**optim)
    step.device = torch.device("cuda")
    with pytest.raises(ConfigError, match=f"acceleration: a graph can be recorded {why}, got graph; choose none"):
        accelerate(step, "graph")
    accelerate(step, "auto")
    assert step.launch == step.compute
