"""Memory of training steps and predictions: estimates against the growth of resident memory in child processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from core.compute.allocator import malloc_environment
from core.compute.determinism import deterministic
from core.config import ModelConfig, TrainConfig
from core.inference.memory_limit import inference_bytes
from core.models import network_trace
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.paths import project_root
from core.training import step_cost
from core.training.step_cost import trace_training_step
from core.types import triple

# Imports torch once and forks a process for every line. Each runs a tiny step first, so that libraries are loaded, and
# prints the growth of its resident memory from there to its peak.
SERVER = """
import gc, json, os, sys
from core.config import TrainConfig
from core.compute.allocator import set_freed_memory_retention
from core.inference.sliding_window import InferenceOptions, predict_logits
from core.models.build import build_model
from core.losses.build import build_loss
from core.training.step import TrainingStep
import torch
import torch.nn.functional

STEPS = 3  # the heap reaches its size in the first ones

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

def train(config, channels, classes):
    size, batch = config.sampling.sub_volume, config.sampling.batch_size
    network = build_model(config.model, channels, classes)
    step = TrainingStep(network, build_loss(config.loss), config.optim, config.run.precision)
    for number in range(STEPS):
        image = torch.randn(batch, channels, *size)
        label = torch.randint(0, classes, (batch, *size), dtype=torch.uint8)
        step([(image, label)], 1e-3, number)

def predict(config, channels, classes, network):
    image = torch.randn(channels, *config.sampling.sub_volume)
    options = InferenceOptions("whole", (8, 8, 8), precision=config.run.precision)
    for _ in range(3):
        predict_logits(network, image, options, memory_bytes=2**50)

def measure(work, values, channels, classes):
    config = TrainConfig().with_values(values)
    small = config.with_values({"channels": [4, 8], "sub_volume": [16, 16, 16], "batch_size": 1, "convolutions": []})
    networks = [] if work == "train" else [build_model(config.model, channels, classes)]
    run = train if work == "train" else predict
    run(small, channels, classes, *networks)
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the peak
    before = status("VmRSS")
    run(config, channels, classes, *networks)
    return status("VmHWM") - before

set_freed_memory_retention(True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            print(measure(*json.loads(line)), flush=True)
        except BaseException as error:
            print(repr(error), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""

Case = tuple[dict[str, Any], int, int]  # configuration, input channels, classes

NNUNET = dict(norm="instance", activation="leaky_relu", downsampling="stride", widening="after")
TRAINED: list[Case] = [
    (dict(channels=(16, 32, 64, 128), sub_volume=(64, 64, 64), precision="bf16", loss="dice", optimizer="sgd"), 2, 12),
    (dict(channels=(16, 32, 64), sub_volume=(64, 64, 48), batch_size=2, precision="fp32", loss="dice_ce"), 2, 4),
    (
        dict(**NNUNET, channels=(8, 16, 32, 64), convolutions=(1, 2), sub_volume=(64, 64, 64), batch_size=2,
             precision="bf16", optimizer="muon", momentum=0.95, loss="dice_ce", ema=0.99, full_resolution="detail"),
        1, 3,
    ),
    (
        dict(channels=(64, 128, 256, 512), sub_volume=(32, 32, 16), precision="bf16", optimizer="adamw", ema=0.99),
        2, 4,
    ),
    (dict(model="vnet", channels=(8, 16, 32), sub_volume=(64, 64, 48), precision="fp32", optimizer="adamw"), 1, 2),
    (dict(channels=(16, 32, 64), norm="group", activation="prelu", sub_volume=(64, 48, 48), batch_size=2,
          precision="bf16", optimizer="rmsprop", loss="dice"), 4, 2),
    (dict(model="skipdensenet3d", sub_volume=(64, 64, 64), precision="bf16", optimizer="adamw"), 2, 4),
]  # fmt: skip
PREDICTED: list[Case] = [
    (dict(channels=(16, 32, 64, 128), sub_volume=(96, 112, 96), precision="bf16"), 2, 4),
    (dict(**NNUNET, channels=(16, 32, 64), sub_volume=(80, 80, 80), precision="fp32"), 2, 4),
    (dict(model="vnet", channels=(8, 16, 32), sub_volume=(80, 80, 64), precision="bf16"), 2, 4),
]


def short_and_long(cases: list[Case], short: tuple[int, ...]) -> list[Any]:
    """Cases as parameters; those outside ``short`` belong to the long form."""
    return [case if n in short else pytest.param(case, marks=pytest.mark.long) for n, case in enumerate(cases)]


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    if sys.platform != "linux":
        pytest.skip("reads the peak of resident memory from /proc")
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=project_root(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=malloc_environment({**os.environ, "OMP_NUM_THREADS": str(min(2, os.cpu_count() or 1))}),  # as for users
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def assert_near(server: subprocess.Popen[str], work: str, case: Case, estimate: int, tolerance: float) -> None:
    """Compare with one measurement, or with the median of three where the heap happened to fragment in the first."""
    values, channels, classes = case
    request = json.dumps([work, {"batch_size": 1, **values}, channels, classes])
    measured: list[int] = []
    while len(measured) < 3:
        assert server.stdin and server.stdout
        server.stdin.write(request + "\n")
        server.stdin.flush()
        measured.append(int(server.stdout.readline()))
        if len(measured) == 1 and measured[0] == pytest.approx(estimate, rel=tolerance):
            return
    assert statistics.median(measured) == pytest.approx(estimate, rel=tolerance)


def estimated(values: dict[str, Any], channels: int = 2, classes: int = 4, device: str = "cpu") -> int:
    config = TrainConfig().with_values({"batch_size": 1, **values})
    return trace_training_step(config, channels, classes, device).step_bytes


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "case", short_and_long(TRAINED, short=(1, 4)), ids=lambda case: "-".join(map(str, case[0].values()))
)
def test_training_step_takes_the_estimated_memory(server: subprocess.Popen[str], case: Case) -> None:
    skip_emulated_bf16(case)
    assert_near(server, "train", case, estimated(*case), tolerance=0.2)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "case", short_and_long(PREDICTED, short=(1,)), ids=lambda case: "-".join(map(str, case[0].values()))
)
def test_prediction_takes_the_estimated_memory(server: subprocess.Popen[str], case: Case) -> None:
    skip_emulated_bf16(case)
    values, channels, classes = case
    config = TrainConfig().with_values({"batch_size": 1, **values})
    network = build_model(config.model, channels, classes).eval()
    estimate = inference_bytes(network, triple(config.sampling.sub_volume), precision=config.run.precision)
    assert_near(server, "predict", case, estimate, tolerance=0.3)


def skip_emulated_bf16(case: Case) -> None:
    if case[0]["precision"] == "bf16" and not has_bf16():
        pytest.skip("bfloat16 is emulated here, with other copies")


def has_bf16() -> bool:
    from core.compute.expected_device import has_bf16_instructions

    return has_bf16_instructions()


# --- properties -------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_estimate_grows_with_every_option_that_takes_memory() -> None:
    given: dict[str, Any] = dict(channels=(8, 16, 32), sub_volume=(32, 32, 32), precision="bf16", optimizer="sgd")
    base = estimated(given)
    for change in (
        dict(batch_size=2),
        dict(sub_volume=(32, 32, 40)),
        dict(channels=(16, 16, 32)),
        dict(precision="fp32"),
        dict(convolutions=(3,)),
        dict(optimizer="adamw"),
        dict(ema=0.9),
        dict(momentum=0.9),
        dict(activation="prelu"),
        dict(loss="dice_ce"),
        dict(optimizer="muon"),
        dict(model="vnet"),
    ):
        for device in ("cpu", "cuda"):
            assert estimated({**given, **change}, device=device) >= estimated(given, device=device), (change, device)
    assert estimated(given, channels=4) > base
    assert estimated(given, classes=20) > base
    assert estimated({**given, "convolutions": (1,)}) < base


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_estimate_is_proportional_to_the_batch_size(device: str) -> None:
    given: dict[str, Any] = dict(channels=(16, 32), sub_volume=(48, 48, 48), precision="bf16", optimizer="sgd")
    one, two, three, four = (estimated({**given, "batch_size": n}, device=device) for n in (1, 2, 3, 4))
    assert one < two < three < four
    assert four == pytest.approx(4 * one, rel=0.1 if device == "cuda" else 0.35)  # the heap has a constant part


@pytest.mark.slow
def test_same_step_is_traced_once_except_for_a_network_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose code may change. Deterministic pooling is another step."""
    traced: list[str] = []
    build = network_trace.build_fake_network

    def noted(config: ModelConfig, in_channels: int, classes: int) -> SegmentationNetwork:
        traced.append(config.model)
        return build(config, in_channels, classes)

    monkeypatch.setattr(step_cost, "build_fake_network", noted)
    given: dict[str, Any] = dict(channels=(2, 3), sub_volume=(10, 8, 8), precision="fp32", downsampling="pool")
    first, again = (estimated({**given, "path": path}) for path in ("a", "b"))
    assert first == again and len(traced) == 1
    with deterministic(True):
        estimated(given)
    assert len(traced) == 2
    monkeypatch.setattr(step_cost, "MODELS", {})  # as if the network were none of the program's own
    assert estimated(given) == estimated(given) == first and len(traced) == 4
