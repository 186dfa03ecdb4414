"""Benchmark of augmentation: rows of each library, shapes of what it makes, errors of other libraries."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from core.bench import augment, peers
from core.bench.augment import Settings, bench_augment
from core.errors import ConfigError
from tests.support.peer_packages import import_or_skip, monai_or_skip

SMALL = Settings((24, 24, 16), (40, 40, 32), draws=2, peers=True)


def ignore_progress(done: float, total: int, text: str) -> None:
    """A progress callback that does nothing."""


@pytest.mark.slow
def test_table_of_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    has_monai = importlib.util.find_spec("monai") is not None
    monkeypatch.setattr(peers, "is_installed", lambda package: package == "monai" and has_monai)
    ours, monai, torchio = bench_augment(SMALL, "cpu", ignore_progress).rows
    assert ours.ratio == 1 and ours.ms is not None and ours.sub_volumes_per_s == pytest.approx(1000 / ours.ms)
    assert torchio.ms is None and torchio.note.startswith("not installed")
    assert (monai.ms is not None) == has_monai


def test_error_of_another_library_is_reported_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise TypeError("unexpected argument\nprob")

    def incomplete(module: str) -> None:
        raise ImportError("No module named 'SimpleITK'")

    monkeypatch.setattr(augment, "_monai", broken)
    monkeypatch.setattr(peers, "is_installed", lambda package: True)
    monkeypatch.setattr("importlib.import_module", incomplete)
    ours, monai, torchio = bench_augment(SMALL, "cpu", ignore_progress).rows
    assert ours.ms is not None and monai.ms is None and torchio.ms is None
    assert monai.note == "failed: unexpected argument"
    assert torchio.note == "cannot be imported: No module named 'SimpleITK'"


def test_pipeline_of_monai_makes_a_sub_volume() -> None:
    monai_or_skip("monai.transforms")
    made = augment._monai(augment._noise_subject(SMALL.volume), SMALL, torch.device("cpu"))()
    assert isinstance(made, dict) and made["image"].shape == (2, 24, 24, 16) and made["label"].shape == (1, 24, 24, 16)
    assert set(np.unique(made["label"])) <= {0, 1, 2, 3}


@pytest.mark.filterwarnings("ignore:The maximum displacement:RuntimeWarning")
def test_pipeline_of_torchio_makes_a_sub_volume() -> None:
    import_or_skip("torchio", "requirements-bench.txt")
    made = augment._torchio(augment._noise_subject(SMALL.volume), SMALL)()
    assert made["image"].shape == (2, 24, 24, 16) and made["label"].shape == (1, 24, 24, 16)  # type: ignore[index]


def test_pipeline_of_segmentarium_makes_a_sub_volume() -> None:
    image, label = augment._segmentarium(augment._noise_subject(SMALL.volume), SMALL, torch.device("cpu"))()  # type: ignore[misc]
    assert image.shape == (1, 2, 24, 24, 16) and label.shape == (1, 24, 24, 16)  # type: ignore[has-type]


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="probability: expected 0 to 1"):
        Settings(probability=1.5)
    with pytest.raises(ConfigError, match="draws: expected at least 1"):
        Settings(draws=0)
    with pytest.raises(ConfigError, match="expected at most the volume's 64x64x64 voxels, got 128x128x64"):
        Settings(volume=(64, 64, 64))
