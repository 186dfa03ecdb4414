"""Augmentation side by side."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from core.bench import augment, peers
from core.bench.augment import Settings, bench_augment
from core.errors import ConfigError
from tests.support.monai_peer import monai_or_skip

SMALL = Settings((24, 24, 16), (40, 40, 32), draws=2, peers=True)


def silent(done: float, total: int, words: str) -> None:
    """Nobody watches."""


def test_table_of_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec("monai") is not None
    monkeypatch.setattr(peers, "there", lambda package: package == "monai" and there)
    ours, monai, torchio = bench_augment(SMALL, "cpu", silent).rows
    assert ours.ratio == 1 and ours.ms is not None and ours.sub_volumes_per_s == pytest.approx(1000 / ours.ms)
    assert torchio.ms is None and torchio.note.startswith("not installed")
    assert (monai.ms is not None) == there


def test_what_fails_in_a_peer_is_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise TypeError("unexpected argument\nprob")

    def incomplete(module: str) -> None:
        raise ImportError("No module named 'SimpleITK'")

    monkeypatch.setattr(augment, "_monai", broken)
    monkeypatch.setattr(peers, "there", lambda package: True)
    monkeypatch.setattr("importlib.import_module", incomplete)
    ours, monai, torchio = bench_augment(SMALL, "cpu", silent).rows
    assert ours.ms is not None and monai.ms is None and torchio.ms is None
    assert monai.note == "failed: unexpected argument"
    assert torchio.note == "cannot be imported: No module named 'SimpleITK'"


def test_monais_pipeline_makes_a_sub_volume() -> None:
    monai_or_skip("monai.transforms")
    made = augment._monai(augment._subject(SMALL.volume), SMALL, torch.device("cpu"))()
    assert isinstance(made, dict) and made["image"].shape == (2, 24, 24, 16) and made["label"].shape == (1, 24, 24, 16)
    assert set(np.unique(made["label"])) <= {0, 1, 2, 3}


@pytest.mark.filterwarnings("ignore:The maximum displacement:RuntimeWarning")
def test_torchios_pipeline_makes_a_sub_volume() -> None:
    pytest.importorskip("torchio", reason="needs requirements-bench.txt")
    made = augment._torchio(augment._subject(SMALL.volume), SMALL)()
    assert made["image"].shape == (2, 24, 24, 16) and made["label"].shape == (1, 24, 24, 16)  # type: ignore[index]


def test_ours_makes_a_sub_volume_of_every_operation() -> None:
    image, label = augment._ours(augment._subject(SMALL.volume), SMALL, torch.device("cpu"))()  # type: ignore[misc]
    assert image.shape == (1, 2, 24, 24, 16) and label.shape == (1, 24, 24, 16)  # type: ignore[has-type]


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="probability: expected 0 to 1"):
        Settings(probability=1.5)
    with pytest.raises(ConfigError, match="draws: expected at least 1"):
        Settings(draws=0)
    with pytest.raises(ConfigError, match="expected at most the volume's 64x64x64 voxels, got 128x128x64"):
        Settings(volume=(64, 64, 64))
