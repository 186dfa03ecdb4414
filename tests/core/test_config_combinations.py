"""Configuration: combinations of values that exclude each other."""

from __future__ import annotations

import pytest

from core.config import ModelConfig, RunConfig, SplitConfig, TrainConfig
from core.errors import ConfigError


def test_fold_must_be_less_than_folds() -> None:
    for folds, fold in ((0, 0), (0, 999), (2, 0), (2, 1), (1000, 999)):
        assert SplitConfig(folds=folds, fold=fold).fold == fold
    with pytest.raises(ConfigError, match=r"folds: expected 0 \(leave one out\) or at least 2, got 1"):
        SplitConfig(folds=1)
    for folds, fold in ((2, 2), (5, 5), (5, 999)):
        with pytest.raises(ConfigError, match=f"fold: expected 0 to {folds - 1} with {folds} folds, got {fold}"):
            SplitConfig(folds=folds, fold=fold)
    with pytest.raises(ConfigError, match="fold: expected 0 to 4 with 5 folds, got 7"):
        TrainConfig().with_values({"fold": 7})
    assert TrainConfig().with_values({"fold": 7, "folds": 8}).split.fold == 7


def test_subject_cannot_be_in_validation_and_test() -> None:
    assert SplitConfig(val_subjects=("a",), test_subjects=("b",)).test_subjects == ("b",)
    with pytest.raises(ConfigError, match=r"test_subjects: \['b'\] are in val_subjects too"):
        SplitConfig(val_subjects=("a", "b"), test_subjects=("b", "c"))


@pytest.mark.parametrize("count", range(11))
def test_channels_need_2_to_8_levels(count: int) -> None:
    channels = (4,) * count
    if count == 0 or 2 <= count <= 8:
        assert ModelConfig(channels=channels).channels == channels
    else:
        with pytest.raises(ConfigError, match=f"channels: expected 2 to 8 resolutions or none, got {count}"):
            ModelConfig(channels=channels)


def test_deterministic_run_has_no_time_budget() -> None:
    with pytest.raises(ConfigError, match=r"deterministic: expected a number of epochs, got a budget of 3 minutes"):
        RunConfig(deterministic=True, minutes=3)


def test_cuda_graphs_need_a_single_device() -> None:
    assert RunConfig(devices=1, acceleration="graph").devices == 1
    with pytest.raises(ConfigError, match=r"acceleration: expected none, compile or auto on 2 devices, got graph"):
        RunConfig(devices=2, acceleration="graph")


def test_early_stopping_needs_whole_volume_validation() -> None:
    with pytest.raises(ConfigError, match=r"patience: expected 0 where whole_every is 0, got 2"):
        TrainConfig().with_values({"patience": 2, "whole_every": 0})
