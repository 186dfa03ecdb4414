"""What a loss takes from the training data: class weights that a resumed run keeps, and the voxel size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.checkpointing.checkpoint import load
from core.datasets import load_subject, open_dataset
from core.events import Event, Ready
from core.losses.class_weights import class_weights
from core.training import experiment, run_loss
from core.training.experiment import train_run
from core.training.task import TrainingTask
from core.training.trainer import fit
from tests.support.balls import CLASSES, tiny, write_balls
from tests.support.training_tasks import make_task

SHORT = {"epochs": 2, "samples_train": 4, "samples_val": 2, "whole_every": 0}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_class_weights_come_from_the_training_subjects_and_are_kept_when_resuming(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_balls(tmp_path / "data")
    config = tiny(path=str(data), loss="weighted_ce", **SHORT)
    events: list[Event] = []
    steps = iter(range(100))
    train_run(config, run, events.append, should_stop=lambda: next(steps) >= 7)  # six subjects are read first
    metadata = load(run / "last.safetensors").metadata
    dataset = open_dataset(data)
    label_maps = [load_subject(dataset, id).label for id in metadata.split["train"]]
    expected = class_weights([m for m in label_maps if m is not None], len(CLASSES), 0.5)
    assert metadata.dataset["class_weights"] == list(expected)
    assert expected[0] < expected[1]
    facts = next(e for e in events if isinstance(e, Ready)).facts
    assert facts["class weights"] == ", ".join(f"{n} {w:.3g}" for n, w in zip(CLASSES, expected, strict=True))

    monkeypatch.setattr(run_loss, "class_weights", lambda *_: pytest.fail("computed again"))
    tasks: list[TrainingTask] = []
    monkeypatch.setattr(experiment, "fit", lambda task, *_, **__: tasks.append(task))
    train_run(config, run, lambda event: None, resume=True)
    assert tasks[0].loss_facts.class_weights == expected


@pytest.mark.slow
def test_other_losses_leave_the_metadata_as_they_were(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[TrainingTask] = []
    monkeypatch.setattr(experiment, "fit", lambda task, *_, **__: tasks.append(task))
    data = write_balls(tmp_path / "data")
    train_run(tiny(path=str(data), loss="boundary", **SHORT), run, lambda event: None)
    assert "class_weights" not in tasks[0].metadata.dataset and "class weights" not in tasks[0].facts
    assert tasks[0].loss_facts.spacing_mm == pytest.approx((1, 1, 1.5)), "of the training subjects"
    train_run(tiny(path=str(data), loss="boundary", spacing_mm=(2.0, 1.0, 1.0), **SHORT), run, lambda event: None)
    assert tasks[1].loss_facts.spacing_mm == (2.0, 1.0, 1.0), "to which they are resampled"


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dice_ce", "boundary"])
def test_network_with_deep_supervision_trains_and_is_validated(tmp_path: Path, loss: str) -> None:
    config = tiny(loss=loss, deep_supervision=True, channels=(4, 8, 16), **{**SHORT, "epochs": 1})
    events: list[Event] = []
    fit(make_task(tmp_path, config), events.append)
    values = {name: value for event in events for name, value in getattr(event, "values", {}).items()}
    assert np.isfinite(values["train/loss"]) and np.isfinite(values["val/loss"])
