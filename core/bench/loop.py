"""Overhead of the trainer over its bare step: drawing and augmenting sub-volumes, reports, checkpoints.

:func:`core.training.trainer.fit` trains on a few subjects of noise, without validation. At the end of each epoch, while
it waits for its listener, the same number of bare steps of the same network is timed, so that both see the same noise
of the machine.
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

from core.bench.implementations import CLASSES, IN_CHANNELS, random_batch, segmentarium_step
from core.bench.machine import synchronize
from core.bench.timing import Workload, seconds_per_call
from core.checkpointing.metadata import CheckpointMetadata
from core.compute.allocator import set_freed_memory_retention
from core.config import ModelConfig, OptimConfig, TrainConfig
from core.events import Event, Metrics, Saved
from core.labels import LabelSpace
from core.models.build import build_model
from core.presets import preset
from core.training.acceleration import EAGER_STEPS
from core.training.task import TrainingTask
from core.training.trainer import fit
from core.types import Size3, TrainingSubject

EPOCHS = 5  # the first warms up
SUBJECTS = 3
SUBJECT_MARGIN = 16  # voxels by which a subject is larger than a sub-volume along each axis


@dataclass(frozen=True)
class LoopSetup:
    """Training that is measured.

    Attributes
    ----------
    model : ModelConfig.
    optim : OptimConfig.
    precision : str. "fp32" or "bf16".
    batch : int. Batch size.
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    device : torch.device.
    epoch_s : float. Intended duration of an epoch in seconds.
    """

    model: ModelConfig
    optim: OptimConfig
    precision: str
    batch: int
    size: Size3
    device: torch.device
    epoch_s: float


@dataclass(frozen=True)
class LoopTimes:
    """Times of each epoch but the first.

    Attributes
    ----------
    loop_s : list of float. Seconds per step in the trainer.
    bare_s : list of float. Seconds per bare step.
    checkpoints : int. Checkpoints written during the measurement.
    """

    loop_s: list[float]
    bare_s: list[float]
    checkpoints: int

    @property
    def ratio(self) -> float:
        """Median ratio of a step in the trainer to a bare step."""
        return statistics.median(loop / bare for loop, bare in zip(self.loop_s, self.bare_s, strict=True))


def measure_loop(setup: LoopSetup, on_epoch: Callable[[int, int], None]) -> LoopTimes:
    """Train :data:`EPOCHS` epochs with the other values of preset ``fast`` in a temporary folder.

    Parameters
    ----------
    setup : LoopSetup.
    on_epoch : callable. Called with (epochs done, epochs).
    """
    set_freed_memory_retention(True)
    device = setup.device
    bare_network, network = (build_model(setup.model, IN_CHANNELS, CLASSES).to(device).train() for _ in range(2))
    step = segmentarium_step(bare_network, setup.optim, setup.precision, "auto")
    image, label = random_batch(setup.batch, setup.size, device)

    def bare_step() -> None:
        step(image, label)

    cuda = device.type == "cuda"
    seconds_per_call(bare_step, EAGER_STEPS + 1 if cuda else 2, device)  # warm up, and let "auto" choose its launch
    steps = max(EAGER_STEPS + 3 if cuda else 1, round(setup.epoch_s / seconds_per_call(bare_step, 2, device)))
    timer = _EpochTimer(bare_step, steps, device, on_epoch)
    with tempfile.TemporaryDirectory() as folder:
        fit(_task(_config(setup, steps), network, Path(folder)), timer)
    return LoopTimes(timer.loop_s, timer.bare_s, timer.checkpoints)


class _EpochTimer:
    """Listener of the trainer: times each epoch but the first, and the same number of bare steps after each of them."""

    def __init__(
        self, bare_step: Workload, steps: int, device: torch.device, on_epoch: Callable[[int, int], None]
    ) -> None:
        self.loop_s: list[float] = []
        self.bare_s: list[float] = []
        self.checkpoints = 0
        self._bare_step, self._steps, self._device, self._on_epoch = bare_step, steps, device, on_epoch
        self._started: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Saved):
            self.checkpoints += 1
        if not isinstance(event, Metrics) or "train/loss" not in event.values or event.step % self._steps:
            return
        synchronize(self._device)
        if self._started is not None:
            self.loop_s.append((time.perf_counter() - self._started) / self._steps)
            self.bare_s.append(seconds_per_call(self._bare_step, self._steps, self._device))
        self._on_epoch(event.epoch, EPOCHS)
        self._started = time.perf_counter()


def _config(setup: LoopSetup, steps: int) -> TrainConfig:
    return preset("fast").with_values(
        {
            **asdict(setup.model),
            **asdict(setup.optim),
            "loss": "dice_ce",
            "include_background": True,
            "batch_dice": False,
            "sub_volume": setup.size,
            "batch_size": setup.batch,
            "samples_train": steps * setup.batch,
            "accumulate": 1,
            "samples_val": 0,
            "whole_every": 0,
            "epochs": EPOCHS,
            "minutes": 0.0,
            "precision": setup.precision,
            "device": setup.device.type,
            "acceleration": "auto",
        }
    )


def _task(config: TrainConfig, network: torch.nn.Module, folder: Path) -> TrainingTask:
    classes = ("background", *(f"class {n}" for n in range(1, CLASSES)))
    labels = LabelSpace.from_raw(list(enumerate(classes)))
    generator = np.random.default_rng(0)
    shape = tuple(n + SUBJECT_MARGIN for n in config.sampling.sub_volume)
    subjects = [
        TrainingSubject(
            f"noise-{n}",
            generator.standard_normal((IN_CHANNELS, *shape), dtype=np.float32),
            generator.integers(0, CLASSES, shape, dtype=np.uint8),
            (1.0, 1.0, 1.0),
        )
        for n in range(SUBJECTS)
    ]
    modalities = tuple(f"M{n}" for n in range(IN_CHANNELS))
    return TrainingTask(
        config=config,
        model=network,
        train=subjects,
        held_out=[],
        classes=classes,
        colours=tuple(c.colour for c in labels.classes),
        folder=folder,
        metadata=CheckpointMetadata(config.to_json(), labels.to_json(), modalities, None),
    )
