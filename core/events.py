"""What a training run says while it works. ``core.training.trainer`` emits these; who listens decides what becomes of them.

Metric names are the same everywhere - run folder, index, TensorBoard, charts:

==========================================  ===========================================================================
``train/loss``                              mean training loss since the last such row
``val/loss``                                mean loss over the validation sub-volumes
``val/dice/<class>``, ``val/dice_mean``     Dice on validation sub-volumes, pooled; the mean leaves the background out
``val/sub_volume_dice_with_background``     the article's figure: mean over all classes, background included
``whole/dice/<class>``, ``whole/dice_mean`` mean Dice over the held-out subjects, segmented as whole volumes
``lr``                                      learning rate
``speed``                                   training sub-volumes per second
==========================================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Preparing:
    """Work before the first step: making demo data, reading subjects."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Ready:
    """Training is about to start; ``facts`` are short (name, value) pairs for people: device, precision, parameters."""

    facts: dict[str, str]
    classes: tuple[str, ...]
    start_epoch: int
    start_step: int


@dataclass(frozen=True)
class Note:
    """Something that people may want to know, in one sentence; it goes into the log."""

    text: str


@dataclass(frozen=True)
class Progress:
    """Where training is; at most a few times a second. ``epochs`` is an estimate under a time budget."""

    epoch: int
    epochs: int
    step: int
    step_in_epoch: int
    steps_per_epoch: int
    loss: float | None
    sub_volumes_per_s: float
    elapsed_s: float
    remaining_s: float | None
    what: str = "training"


@dataclass(frozen=True)
class Metrics:
    """Measured values by metric name; a value is ``nan`` where it is not defined."""

    epoch: int
    step: int
    elapsed_s: float
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """One slice of a validation sub-volume: image, truth and prediction side by side: uint8 (height, width, 3)."""

    epoch: int
    step: int
    name: str
    rgb: np.ndarray


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk. ``kind`` is "last", "best" or "epoch-0010"; ``mean_dice`` and ``measured_on`` are what
    best was chosen by."""

    kind: str
    path: str
    epoch: int
    step: int
    mean_dice: float | None
    measured_on: str | None


@dataclass(frozen=True)
class Ended:
    """Training is over: ``reason`` is "finished" or "stopped" (somebody asked); ``why`` says more where there is more
    to say."""

    reason: str
    epoch: int
    step: int
    elapsed_s: float
    why: str = ""


Event = Preparing | Ready | Note | Progress | Metrics | Picture | Saved | Ended
Listener = Callable[[Event], None]
