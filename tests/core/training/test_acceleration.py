"""A compiled or captured step trains as the eager one; "auto" keeps the faster one.

No GPU is needed: a tape replaces the CUDA graph. Like a graph, it records operators with the tensors that they
read and wrote, replays them on these tensors, and refuses operators that synchronise.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.config import LossConfig, ModelConfig, OptimConfig
from core.errors import ConfigError
from core.losses.build import build_loss
from core.models.build import build_model
from core.sampling.patches import Batch
from core.training.acceleration import EAGER_STEPS, AutoLauncher, CudaGraphLauncher, accelerate
from core.training.step import TrainingStep


class Tape(TorchDispatchMode):
    """Replaces a CUDA graph on a CPU."""

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
        """All work is in order already."""


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def record(tape: Tape, capture_error_mode: str) -> Iterator[None]:
        with tape:
            yield

    for name, value in {
        "CUDAGraph": Tape,
        "graph": record,
        "Stream": lambda device: Stream(),
        "current_stream": lambda device: Stream(),
        "stream": lambda stream: contextlib.nullcontext(),
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


def batch(seed: int) -> Batch:
    chance = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 1, 8, 8, 8, generator=chance)
    return image, torch.randint(0, 3, (2, 8, 8, 8), generator=chance).to(torch.uint8)


def unet(norm: Any) -> nn.Module:
    config = ModelConfig(channels=(4, 8), norm=norm, activation="leaky_relu", downsampling="stride", widening="after")
    model = build_model(config, 1, 3)
    for name, p in model.named_parameters():
        # Cancelled by the normalisation: their gradient is rounding error, which Adam would amplify.
        p.requires_grad_(not name.endswith(".0.bias"))
    return model


def make_step(norm: str = "instance", model: nn.Module | None = None, **optim: object) -> TrainingStep:
    torch.manual_seed(0)
    config = OptimConfig(**{"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, **optim})  # type: ignore[arg-type]
    return TrainingStep(model or unet(norm), build_loss(LossConfig(loss="dice_ce")), config, "fp32")


def train(step: TrainingStep, steps: int, bad: int | None = None) -> None:
    """Steps on different batches at different rates."""
    for number in range(steps):
        image, label = batch(number)
        step([(image * torch.nan if number == bad else image, label)], 0.02 / (1 + number), number)


def assert_same(one: TrainingStep, other: TrainingStep) -> None:
    for (name, p), q in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=f"{name} differs")
    assert one.read_loss() == (pytest.approx(other.read_loss()[0], rel=1e-5, nan_ok=True), other.read_loss()[1])
    if one.ema is not None and other.ema is not None:
        for key, value in one.ema.values.items():
            torch.testing.assert_close(value, other.ema.values[key], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_captured_step_trains_as_the_eager_one(optimizer: str, norm: str) -> None:
    """With changing rates, clipping and EMA, from the first step on: the capture itself changes no weights."""
    options: dict[str, Any] = {"optimizer": optimizer, "clip_norm": 1.0, "ema": 0.9, "weight_decay": 0.01}
    eager, captured = make_step(norm, **options), make_step(norm, **options)
    captured.launch = CudaGraphLauncher(captured)
    for step in (eager, captured):
        train(step, 5)
    assert_same(captured, eager)


@pytest.mark.slow
@pytest.mark.usefixtures("taped")
def test_nonfinite_gradient_stops_updates_of_a_captured_step() -> None:
    eager, captured = make_step(), make_step()
    captured.launch = CudaGraphLauncher(captured)
    for step in (eager, captured):
        train(step, 4, bad=2)
        assert step.read_loss()[1] == 2
    assert_same(captured, eager)


@pytest.mark.slow
@pytest.mark.usefixtures("taped")
@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_auto_keeps_the_faster_launch(optimizer: str, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(self: AutoLauncher, launch: Any, batches: Sequence[Batch]) -> float:
        launch(batches)
        return 0.001 if isinstance(launch, CudaGraphLauncher) == quick else 0.002

    monkeypatch.setattr(AutoLauncher, "_time", seconds)
    messages: list[str] = []
    eager, auto = make_step("batch", optimizer=optimizer, ema=0.9), make_step("batch", optimizer=optimizer, ema=0.9)
    auto.launch = AutoLauncher(auto, messages.append)
    for step in (eager, auto):
        train(step, EAGER_STEPS + 3)
    assert_same(auto, eager)
    assert isinstance(auto.launch, CudaGraphLauncher) == quick
    how = "as a CUDA graph" if quick else "one by one"
    times = ("1.00", "2.00") if quick else ("2.00", "1.00")
    assert messages == [f"steps are launched {how}: {times[0]} ms as a CUDA graph, {times[1]} ms launched one by one"]
    assert all(isinstance(group["lr"], Tensor) == quick for group in auto.optimizer.param_groups)


@pytest.mark.slow
@pytest.mark.usefixtures("taped")
def test_auto_continues_eagerly_if_the_capture_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that synchronises cannot be captured."""
    messages: list[str] = []
    eager, auto = make_step(), make_step()
    real = auto.loss
    auto.loss = lambda output, target: real(output, target) * float(real(output, target).isfinite())
    auto.launch = AutoLauncher(auto, messages.append)
    for step in (eager, auto):
        train(step, EAGER_STEPS + 3)
    assert_same(auto, eager)
    reason = "operation not permitted when stream is capturing"
    assert messages == [f"steps are launched one by one: a CUDA graph could not be captured ({reason})"]
    assert all(isinstance(group["lr"], float) for group in auto.optimizer.param_groups)


@pytest.mark.long
def test_compiled_step_computes_the_same() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.LeakyReLU(), nn.Conv3d(4, 3, 1))  # compiles in seconds
    eager, compiled = make_step(model=network), make_step(model=copy.deepcopy(network))
    accelerate(compiled, "compile")
    for step in (eager, compiled):
        train(step, 2)
    for p, q in zip(eager.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_auto_is_the_eager_step_on_a_cpu() -> None:
    step = make_step()
    accelerate(step, "auto")
    assert step.launch == step.compute


@pytest.mark.slow
@pytest.mark.parametrize("how", ["graph", "compiled_graph"])
def test_graph_needs_a_cuda_device(how: Any) -> None:
    with pytest.raises(ConfigError, match=f"acceleration: .*{how}.* CUDA"):
        accelerate(make_step(), how)


@pytest.mark.parametrize(
    ("optim", "obstacle"), [({"accumulate": 2}, "accumulate 1, found 2"), ({"optimizer": "rmsprop"}, "rmsprop")]
)
def test_steps_that_cannot_be_captured_are_refused(optim: dict[str, Any], obstacle: str) -> None:
    step = make_step(**optim)
    step.device = torch.device("cuda")
    with pytest.raises(ConfigError, match=f"acceleration: .*{obstacle}, got graph"):
        accelerate(step, "graph")
    accelerate(step, "auto")
    assert step.launch == step.compute
