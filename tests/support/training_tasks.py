"""Training of a tiny network on balls in memory, without files but checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.checkpointing.checkpoint import load
from core.checkpointing.metadata import CheckpointMetadata
from core.config import TrainConfig
from core.events import Event, Metrics
from core.inference.sliding_window import InferenceOptions
from core.labels import LabelSpace
from core.models.build import build_model
from core.training import validator
from core.training.task import TrainingTask
from core.training.validation_scores import ValidationSet, WholeVolumeScore, score_whole_volumes
from core.types import TrainingSubject
from tests.support.balls import CLASSES, COLOURS, training_subjects


def make_task(folder: Path, config: TrainConfig, subjects: list[TrainingSubject] | None = None) -> TrainingTask:
    """Train on four subjects unless others are given, validate on two."""
    subjects = training_subjects(4) if subjects is None else subjects
    folder.mkdir(exist_ok=True)
    torch.manual_seed(config.run.seed)
    labels = LabelSpace.from_raw(list(enumerate(CLASSES)))
    return TrainingTask(
        config=config,
        model=build_model(config.model, 1, len(CLASSES)),
        train=subjects,
        held_out=training_subjects(2, first=50),
        classes=CLASSES,
        colours=COLOURS,
        folder=folder,
        metadata=CheckpointMetadata(config.to_json(), labels.to_json(), ("M0",), None),
    )


def checkpoint_tensors(path: Path) -> dict[str, Tensor]:
    """Weights, moving average and optimizer state of a checkpoint by name."""
    checkpoint = load(path, training_state=True)
    weights = {f"model/{k}": v for k, v in checkpoint.model.items()}
    weights |= {f"average/{k}": v for k, v in checkpoint.average.items()}
    return weights | {f"{i}/{k}": v for i, state in checkpoint.optimizer.items() for k, v in state.items()}


def equal_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether names and values are equal."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class FakeClock:
    """Replaces the ``time`` module of the training loop; forward passes advance it."""

    MODULES = ("trainer", "clock", "run_progress", "validator", "validation_scores", "validation_budget")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for module in self.MODULES:
            monkeypatch.setattr(f"core.training.{module}.time", self)

    def monotonic(self) -> float:
        return self.now

    def advance_with(self, model: nn.Module, *, step_s: float, tile_s: float) -> None:
        """Let each forward pass take so long, in training and in evaluation mode."""

        def advance(module: nn.Module, *_: object) -> None:
            self.now += step_s if module.training else tile_s

        model.register_forward_hook(advance)


def stop_after(steps: int) -> Callable[[], bool]:
    """A stop request at a number of steps."""
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= steps


def metric_values(events: list[Event], name: str) -> list[float]:
    """The values of a measure, in order."""
    return [e.values[name] for e in events if isinstance(e, Metrics) and name in e.values]


def validations(events: list[Event]) -> list[tuple[int, dict[str, float]]]:
    """Step and values of each validation on sub-volumes."""
    return [(e.step, dict(e.values)) for e in events if isinstance(e, Metrics) and "val/loss" in e.values]


def fixed_dice(monkeypatch: pytest.MonkeyPatch, **dice: float) -> list[str]:
    """Replace the Dice of whole volumes by a given one for each inference mode; returns the modes in which they are
    scored, as that happens."""
    scored: list[str] = []

    def score(
        model: nn.Module, subjects: ValidationSet, options: InferenceOptions, *arguments: Any
    ) -> WholeVolumeScore:
        scored.append(options.mode)
        measured = score_whole_volumes(model, subjects, options, *arguments)
        return replace(measured, dice=np.full(measured.dice.shape, dice[options.mode]))

    monkeypatch.setattr(validator, "score_whole_volumes", score)
    return scored
