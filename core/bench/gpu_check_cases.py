"""What the checks of a GPU share: small networks, data of boxes, training steps on them, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.bench.implementations import CLASSES, DICE_CE, IN_CHANNELS, plain_unet
from core.bench.machine import defaults_of
from core.checkpointing.metadata import CheckpointMetadata
from core.choices import Acceleration
from core.config import TrainConfig
from core.labels import LabelSpace
from core.losses.build import build_loss
from core.models.build import build_model
from core.presets import preset
from core.training.acceleration import accelerate
from core.training.step import TrainingStep
from core.training.task import TrainingTask
from core.types import Size3, TrainingSubject

STEPS = 24  # the loss of a few structures falls clearly; "auto" tries a graph after ten
SIZES: dict[str, Size3] = {"cuda": (64, 64, 64), "cpu": (16, 16, 16)}


class CheckFailed(Exception):
    """Something that a check expects does not hold; the message says what was expected and what was found."""


def train_steps(
    device: torch.device,
    precision: str,
    mode: Acceleration = "none",
    on_message: Callable[[str], None] = lambda text: None,
    steps: int = STEPS,
) -> list[float]:
    """The losses of steps on one batch, from the same weights."""
    torch.manual_seed(0)
    step, batch, losses = training_step(device, precision), make_batch(device), []
    accelerate(step, mode, on_message)
    for number in range(steps):
        step.reset_loss()
        step([batch], 0.01, number)
        loss, failed = step.read_loss()
        if failed is not None:
            raise CheckFailed(f"expected a finite gradient, step {number} of {steps} has none")
        losses.append(loss)
    return losses


def training_step(device: torch.device, precision: str) -> TrainingStep:
    """A training step of a small U-Net with the loss and optimizer of the checks."""
    network = build_model(plain_unet((8, 16, 32)), IN_CHANNELS, CLASSES).to(device).train()
    return TrainingStep(network, build_loss(DICE_CE), preset("fast").optim, precision)


def make_batch(device: torch.device, size: Size3 | None = None, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Boxes of noise around a level per class: image (batch, channel, i, j, k) and label (batch, i, j, k)."""
    subjects = [_subject(n, size or SIZES[defaults_of(device)]) for n in range(batch)]
    image = torch.stack([torch.from_numpy(s.image).float() for s in subjects])
    label = torch.stack([torch.from_numpy(s.label) for s in subjects])
    return image.to(device), label.to(device)


def _subject(number: int, shape: Sequence[int]) -> TrainingSubject:
    generator = np.random.default_rng(number)
    label = np.zeros(tuple(shape), np.uint8)
    for structure in range(1, CLASSES):
        start = [int(generator.integers(0, max(1, n // 2))) for n in shape]
        label[tuple(slice(s, s + n // 3) for s, n in zip(start, shape, strict=True))] = structure
    image = label[None].astype(np.float32) + 0.3 * generator.standard_normal((IN_CHANNELS, *shape), dtype=np.float32)
    return TrainingSubject(f"boxes-{number}", image, label, (1.0, 1.0, 1.0))


def make_subjects(size: Size3) -> list[TrainingSubject]:
    """Two subjects of boxes, 16 voxels larger than a size along each axis."""
    return [_subject(number, [n + 16 for n in size]) for number in range(2)]


def small_config(device: torch.device) -> TrainConfig:
    """The configuration of two deterministic epochs of six steps in fp32."""
    values = {
        **asdict(plain_unet((8, 16))), "loss": "dice_ce", "sub_volume": (16, 16, 16), "batch_size": 1,
        "samples_train": 6, "accumulate": 1, "samples_val": 0, "whole_every": 0, "epochs": 2, "minutes": 0.0,
        "precision": "fp32", "device": device.type, "acceleration": "none", "deterministic": True,
    }  # fmt: skip
    return preset("fast").with_values(values)


def make_task(folder: Path, device: torch.device) -> TrainingTask:
    """Training by :func:`small_config` on two subjects, in a folder that is made."""
    config = small_config(device)
    classes = ("background", *(f"class {n}" for n in range(1, CLASSES)))
    labels = LabelSpace.from_raw(list(enumerate(classes)))
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    return TrainingTask(
        config=config,
        model=build_model(config.model, IN_CHANNELS, CLASSES).to(device),
        train=make_subjects((16, 16, 16)),
        held_out=[],
        classes=classes,
        colours=tuple(c.colour for c in labels.classes),
        folder=folder,
        metadata=CheckpointMetadata(config.to_json(), labels.to_json(), ("M0", "M1"), None),
    )


def gradient_norm(network: torch.nn.Module) -> float:
    """L2 norm of the gradient of all parameters."""
    gradients = [p.grad.double().flatten() for p in network.parameters() if p.grad is not None]
    return float(torch.cat(gradients).norm())


def describe_fall(losses: Sequence[float]) -> str:
    """The last loss as the end of a sentence; refused unless the loss fell by a tenth."""
    first, last = losses[0], losses[-1]
    if last > 0.9 * first:
        raise CheckFailed(f"expected the loss to fall by a tenth in {len(losses)} steps, got {first:.4f} to {last:.4f}")
    return f"after {len(losses)} steps {last:.4f}"


def expect_close(value: float, expected: float, tolerance: float, what: str) -> None:
    """Raise unless two values are equal within a tolerance relative to the expected one."""
    if not abs(value - expected) <= tolerance * max(abs(expected), 1e-6):
        raise CheckFailed(f"expected {what} to be equal within {tolerance:.0%}, got {value:.5f} and {expected:.5f}")
