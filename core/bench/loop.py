"""What the trainer adds to its bare step: sub-volumes drawn and augmented, reports, checkpoints.

The real :func:`core.training.trainer.fit` trains on a few subjects of noise. At the end of each of its epochs, while it waits for
its listener, as many bare steps of the same network are timed: both see the same noise of the machine. Validation is
left out.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from core.bench.contenders import CLASSES, IN_CHANNELS, our_step, random_batch
from core.bench.machine import synchronise
from core.bench.timing import time_of
from core.checkpointing.checkpoint import Description
from core.compute.allocator import enable_freed_memory_retention
from core.config import ModelConfig, OptimConfig, TrainConfig
from core.events import Event, Metrics, Saved
from core.labels import LabelSpace
from core.models import build_model
from core.presets import preset
from core.training.acceleration import PLAIN_STEPS
from core.training.trainer import Task, fit
from core.types import Size3, TrainingSubject

EPOCHS = 5  # the first warms up
SUBJECTS = 3
BEYOND = 16  # voxels that a subject is larger than a sub-volume, along each axis


@dataclass(frozen=True)
class LoopTimes:
    """Seconds of a step within the trainer and of a bare one, a value for each epoch; checkpoints written meanwhile."""

    loop_s: list[float]
    bare_s: list[float]
    saved: int

    @property
    def ratio(self) -> float:
        """How many times as long as a bare step one takes within the trainer; median over epochs."""
        return statistics.median(a / b for a, b in zip(self.loop_s, self.bare_s, strict=True))


def measure_loop(
    model: ModelConfig,
    optim: OptimConfig,
    precision: str,
    *,
    batch: int,
    size: Size3,
    device: torch.device,
    block_s: float,
    show: Callable[[int, int], None],
) -> LoopTimes:
    """Train for some epochs of preset ``fast`` in a temporary folder.

    Parameters
    ----------
    model, optim, precision : of the network, in the trainer and bare.
    batch, size : sub-volumes in a step, and their voxels.
    block_s : seconds that an epoch is to take.
    show : called with (epochs done, epochs).
    """
    enable_freed_memory_retention()
    bare_network, network = (build_model(model, IN_CHANNELS, CLASSES).to(device).train() for _ in range(2))
    step = our_step(bare_network, optim, precision, "auto")
    image, label = random_batch(batch, size, device)

    def bare() -> None:
        step(image, label)

    time_of(bare, PLAIN_STEPS + 1 if device.type == "cuda" else 2, device)  # with what is quicker, if it is to be found
    steps = max(PLAIN_STEPS + 3 if device.type == "cuda" else 1, round(block_s / time_of(bare, 2, device)))
    config = preset("fast").with_values(
        {
            **{name: value for part in (model, optim) for name, value in asdict(part).items()},
            "loss": "dice_ce", "include_background": True, "batch_dice": False,
            "sub_volume": size, "batch_size": batch, "samples_train": steps * batch, "accumulate": 1, "samples_val": 0,
            "whole_every": 0, "epochs": EPOCHS, "minutes": 0.0, "precision": precision, "device": device.type,
            "acceleration": "auto",
        }
    )  # fmt: skip
    clock = _Clock(bare, steps, device, show)
    with tempfile.TemporaryDirectory() as folder:
        fit(_task(config, network, size, Path(folder)), clock)
    return LoopTimes(clock.loop_s, clock.bare_s, clock.saved)


class _Clock:
    """Listens to the trainer: times each epoch but the first, and after each of them as many bare steps."""

    def __init__(
        self, bare: Callable[[], None], steps: int, device: torch.device, show: Callable[[int, int], None]
    ) -> None:
        self.bare, self.steps, self.device, self.show = bare, steps, device, show
        self.loop_s: list[float] = []
        self.bare_s: list[float] = []
        self.saved = 0
        self.began: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Saved):
            self.saved += 1
        if not isinstance(event, Metrics) or "train/loss" not in event.values or event.step % self.steps:
            return
        synchronise(self.device)
        if self.began is not None:
            self.loop_s.append((time.perf_counter() - self.began) / self.steps)
            self.bare_s.append(time_of(self.bare, self.steps, self.device))
        self.show(event.epoch, EPOCHS)
        self.began = time.perf_counter()


def _task(config: TrainConfig, network: torch.nn.Module, size: Size3, folder: Path) -> Task:
    names = ("background", *(f"class {n}" for n in range(1, CLASSES)))
    labels = LabelSpace.from_raw(list(enumerate(names)))
    chance = np.random.default_rng(0)
    shape = tuple(n + BEYOND for n in size)
    subjects = [
        TrainingSubject(
            f"noise-{n}",
            chance.standard_normal((IN_CHANNELS, *shape), dtype=np.float32),
            chance.integers(0, CLASSES, shape, dtype=np.uint8),
            (1.0, 1.0, 1.0),
        )
        for n in range(SUBJECTS)
    ]
    modalities = tuple(f"M{n}" for n in range(IN_CHANNELS))
    return Task(
        config=config, model=network, train=subjects, held_out=[], classes=names,
        colours=tuple(c.colour for c in labels.classes), folder=folder,
        description=Description(config.to_json(), labels.to_json(), modalities, None),
    )  # fmt: skip
