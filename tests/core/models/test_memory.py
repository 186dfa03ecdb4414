"""Estimates of memory against what really happens: the growth of resident memory in child processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

import pytest

from core.compute.allocator import malloc_environment
from core.config import LossConfig, ModelConfig, OptimConfig, TrainConfig
from core.models.memory import inference_bytes, training_bytes
from core.paths import project_root

ROOT = project_root()
MB = 1e6

# Measures in a fresh process: a tiny step first, so that libraries are loaded, then the growth of the high-water mark.
CHILD = """
import gc, json, sys
import torch
from core.config import TrainConfig
from core.compute.allocator import enable_freed_memory_retention
from core.inference.sliding_window import predict_logits
from core.training.losses import build_loss
from core.models import build_model
from core.training.step import TrainingStep

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

def train(config, channels, classes):
    size, batch = config.sampling.sub_volume, config.sampling.batch_size
    network = build_model(config.model, channels, classes)
    step = TrainingStep(network, build_loss(config.loss), config.optim, config.run.precision)
    for number in range(6):  # the heap finds its shape in the first
        image = torch.randn(batch, channels, *size)
        label = torch.randint(0, classes, (batch, *size), dtype=torch.uint8)
        step([(image, label)], 1e-3, number)

def predict(config, channels, classes, network):
    image = torch.randn(channels, *config.sampling.sub_volume)
    options = dict(tile=(8, 8, 8), overlap=0.5, precision=config.run.precision, memory_bytes=2**50)
    for _ in range(3):
        predict_logits(network, image, mode="whole", **options)

enable_freed_memory_retention()
work, values, channels, classes = json.loads(sys.argv[1])
config = TrainConfig().with_values(values)
small = config.with_values({"channels": [4, 8], "sub_volume": [16, 16, 16], "batch_size": 1, "convolutions": []})
more = [] if work == "train" else [build_model(config.model, channels, classes)]
do = train if work == "train" else predict
do(small, channels, classes, *more)
gc.collect()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
do(config, channels, classes, *more)
print(status("VmHWM") - before)
"""

Case = tuple[dict[str, Any], int, int]  # configuration, input channels, classes

NNUNET = dict(norm="instance", activation="leaky_relu", downsampling="stride", widening="after")
TRAINED: list[Case] = [
    (dict(channels=(16, 32, 64, 128), sub_volume=(64, 64, 64), precision="bf16", loss="dice", optimizer="sgd"), 2, 12),
    (dict(channels=(16, 32, 64), sub_volume=(64, 64, 48), batch_size=2, precision="fp32", loss="dice_ce"), 2, 4),
    (
        dict(**NNUNET, channels=(8, 16, 32, 64), convolutions=(1, 2), sub_volume=(80, 80, 64), batch_size=2,
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
]  # fmt: skip
PREDICTED: list[Case] = [
    (dict(channels=(16, 32, 64, 128), sub_volume=(96, 112, 96), precision="bf16"), 2, 4),
    (dict(**NNUNET, channels=(16, 32, 64), sub_volume=(80, 80, 80), precision="fp32"), 2, 4),
    (dict(model="vnet", channels=(16, 32, 64, 128), sub_volume=(96, 96, 80), precision="bf16"), 2, 4),
]


def measured(work: str, values: dict[str, Any], channels: int, classes: int, times: int = 1) -> int:
    """Bytes; the median of several times (odd), where the heap has its holes by luck."""
    if sys.platform != "linux":
        pytest.skip("reads the high-water mark of memory from /proc")
    asked = json.dumps([work, {"batch_size": 1, **values}, channels, classes])
    found = []
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, asked], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
            env=malloc_environment(os.environ),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(int(done.stdout))
    return int(statistics.median(found))


def estimated(values: dict[str, Any], channels: int = 2, classes: int = 4, device: str = "cpu") -> int:
    config = TrainConfig().with_values({"batch_size": 1, **values})
    i, j, k = config.sampling.sub_volume
    return training_bytes(
        config.model, config.loss, config.optim, in_channels=channels, classes=classes, size=(i, j, k),
        batch=config.sampling.batch_size, precision=config.run.precision, device=device,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", TRAINED, ids=lambda case: "-".join(map(str, case[0].values())))
def test_a_training_step_takes_what_was_estimated(case: Case) -> None:
    values, channels, classes = case
    if values["precision"] == "bf16" and not has_bf16():
        pytest.skip("bfloat16 is emulated here, with other copies")
    taken = measured("train", values, channels, classes, times=3)
    assert taken == pytest.approx(estimated(values, channels, classes), rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("case", PREDICTED, ids=lambda case: "-".join(map(str, case[0].values())))
def test_one_pass_takes_what_was_estimated(case: Case) -> None:
    values, channels, classes = case
    if values["precision"] == "bf16" and not has_bf16():
        pytest.skip("bfloat16 is emulated here, with other copies")
    config = TrainConfig().with_values(values)
    i, j, k = config.sampling.sub_volume
    found = inference_bytes(
        config.model, in_channels=channels, classes=classes, size=(i, j, k), precision=config.run.precision
    )
    taken = measured("predict", values, channels, classes, times=3)
    assert taken == pytest.approx(found, rel=0.3)


def has_bf16() -> bool:
    from core.compute.precision import _has_bf16_instructions

    return _has_bf16_instructions()


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_a_small_network_by_hand() -> None:
    # Two levels of 1 channel, fp32 on CUDA (no padded copies), 8 voxels a side: v = 512 values at full resolution.
    model = ModelConfig(channels=(1, 1), convolutions=(1,), downsampling="stride", widening="after", norm="batch")
    v, deep = 512 * 4, 64 * 4
    found = inference_bytes(model, in_channels=1, classes=1, size=(8, 8, 8), precision="fp32", device="cuda")
    # The decoder's convolution: image, skip, what is below, the joined two, and copies of its input, kernel and output.
    assert found == v + v + deep + 2 * v + (2 * v + 2 * 27 * 4 + v)


def test_grows_with_whatever_makes_it_larger() -> None:
    given: dict[str, Any] = dict(channels=(8, 16, 32), sub_volume=(32, 32, 32), precision="bf16", optimizer="sgd")
    base = estimated(given)
    for more in (
        dict(batch_size=2), dict(sub_volume=(32, 32, 40)), dict(channels=(16, 16, 32)), dict(precision="fp32"),
        dict(convolutions=(3,)), dict(optimizer="adamw"), dict(ema=0.9), dict(momentum=0.9), dict(activation="prelu"),
        dict(loss="dice_ce"), dict(optimizer="muon"), dict(model="vnet"),
    ):  # fmt: skip
        for device in ("cpu", "cuda"):
            assert estimated({**given, **more}, device=device) >= estimated(given, device=device), (more, device)
    assert estimated(given, channels=4) > base
    assert estimated(given, classes=20) > base
    assert estimated({**given, "convolutions": (1,)}) < base


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_batch_costs_its_sub_volumes(device: str) -> None:
    given: dict[str, Any] = dict(channels=(16, 32), sub_volume=(48, 48, 48), precision="bf16", optimizer="sgd")
    one, two, three, four = (estimated({**given, "batch_size": n}, device=device) for n in (1, 2, 3, 4))
    assert one < two < three < four
    assert four == pytest.approx(4 * one, rel=0.1 if device == "cuda" else 0.35)  # large blocks leave no holes


def test_a_prediction_takes_far_less_than_training() -> None:
    model = ModelConfig(channels=(16, 32, 64, 128))
    options: dict[str, Any] = dict(in_channels=2, classes=4, size=(64, 64, 64), precision="bf16")
    one = inference_bytes(model, **options)
    assert 2 * one < training_bytes(model, LossConfig(), OptimConfig(), **options)
    assert one < inference_bytes(model, **options, batch=2)
    assert one < inference_bytes(model, **{**options, "precision": "fp32"})
