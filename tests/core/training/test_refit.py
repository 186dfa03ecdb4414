"""Training on every subject: nothing is held out, nothing is measured, and the result is the averaged last weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.checkpointing.checkpoint import load
from core.config_data import NO_FOLD
from core.datasets import open_dataset
from core.errors import DatasetError
from core.evaluation.evaluate import split_subjects_of
from core.events import Ended, Event, Metrics, Picture, Ready, Saved, Segmented
from core.training.experiment import train_run
from tests.support.balls import tiny, write_balls
from tests.support.training_tasks import checkpoint_tensors, equal_tensors, stop_after

REFIT = {"folds": 0, "fold": NO_FOLD, "epochs": 2, "samples_train": 4, "samples_val": 2, "whole_every": 1}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data", subjects=3)


@pytest.mark.slow
def test_refit_trains_on_every_subject_and_reports_no_dice(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    events: list[Event] = []
    train_run(tiny(path=str(data), patience=1, test_subjects=("ball_2",), **REFIT), folder, events.append)
    assert isinstance(events[-1], Ended) and (events[-1].reason, events[-1].epoch) == ("finished", 2)
    names = {name for event in events if isinstance(event, Metrics) for name in event.values}
    assert names == {"train/loss", "lr", "speed"}
    assert not [event for event in events if isinstance(event, Picture | Segmented)]
    ready = next(event for event in events if isinstance(event, Ready))
    assert ready.facts["subjects"] == "2 train, 0 validate, 1 test"
    assert "no Dice is measured" in ready.facts["held out"] and "early stopping" in ready.facts["held out"]
    assert [event.mean_dice for event in events if isinstance(event, Saved) and event.kind == "best"] == [None]

    best, last = load(folder / "best.safetensors"), load(folder / "last.safetensors", training_state=True)
    assert best.metadata.split == {"train": ["ball_0", "ball_1"], "val": [], "test": ["ball_2"]}
    assert best.metadata.progress["step"] == 4
    averaged = [name for name in last.average if not torch.equal(last.average[name], last.model[name])]
    assert averaged  # the moving average differs from the last weights, and is what predicts
    assert all(torch.equal(best.model[name], last.average[name]) for name in last.average)

    dataset = open_dataset(data)
    assert split_subjects_of(dataset, best.metadata, None) == ("test", ("ball_2",))
    with pytest.raises(DatasetError, match=r"every subject but its test subjects; .*--split test \(ball_2\)"):
        split_subjects_of(dataset, best.metadata, "val")
    untested = replace(best.metadata, split={**best.metadata.split, "test": []})
    with pytest.raises(DatasetError, match=r"trained on every subject; .*--split all"):
        split_subjects_of(dataset, untested, "val")


@pytest.mark.slow
def test_stopped_refit_has_no_result_yet_and_goes_on_to_the_same_one(data: Path, tmp_path: Path) -> None:
    config = tiny(path=str(data), **REFIT)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    train_run(config, whole, lambda event: None)
    train_run(config, parts, lambda event: None, should_stop=stop_after(6))  # of three subjects read, and three steps
    assert not (parts / "best.safetensors").exists() and (parts / "last.safetensors").exists()
    train_run(config, parts, lambda event: None, resume=True)
    for name in ("best.safetensors", "last.safetensors"):
        assert equal_tensors(checkpoint_tensors(whole / name), checkpoint_tensors(parts / name))


@pytest.mark.slow
def test_refit_within_a_time_budget_reserves_nothing_for_validation(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    events: list[Event] = []
    train_run(tiny(path=str(data), **{**REFIT, "minutes": 0.02}), folder, events.append)
    assert isinstance(events[-1], Ended) and events[-1].reason == "finished"
    assert events[-1].elapsed_s < 5 and (folder / "best.safetensors").exists()
