"""Weights of another run to begin with: other modalities, other classes, values that are not finite."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.checkpointing.checkpoint import Checkpoint, load, save
from core.checkpointing.metadata import LAST
from core.errors import CheckpointError, ConfigError
from core.events import Ready
from core.training.experiment import train_run
from tests.support.balls import tiny, write_balls

pytestmark = pytest.mark.slow
SHORT = {"epochs": 1, "samples_train": 4, "samples_val": 0, "whole_every": 0}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_balls(tmp_path / "data", channels=2)


def train(data: Path, folder: Path, **values: object) -> tuple[Checkpoint, str]:
    """The last checkpoint, and what the run says of its initial weights."""
    folder.mkdir()
    events: list[object] = []
    train_run(tiny(path=str(data), **{**SHORT, **values}), folder, events.append)
    ready = next(e for e in events if isinstance(e, Ready))
    return load(folder / LAST), ready.facts.get("weights", "")


def describe(data: Path, **changes: object) -> None:
    """Change what dataset.json says."""
    content = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**content, **changes}))


def test_the_same_modalities_in_another_order_are_refused_with_the_way_out(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "first")
    source = str(tmp_path / "first" / LAST)
    describe(data, modality={"0": "m1", "1": "M0"})
    with pytest.raises(ConfigError, match=r"order of the initial network, M0, m1; found m1, M0; .*--modalities M0,m1"):
        train(data, tmp_path / "other", init_from=source)
    _, weights = train(data, tmp_path / "chosen", init_from=source, modalities=("M0", "m1"))
    assert weights == "28 of 28 tensors from first/last.safetensors"


def test_other_modalities_are_taken_in_order_with_a_warning(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "first")
    describe(data, modality={"0": "T2", "1": "M0"})
    _, weights = train(data, tmp_path / "other", init_from=str(tmp_path / "first" / LAST))
    assert weights.endswith("; warning: its modalities M0, M1 are taken for T2, M0 in this order")


def test_classes_in_another_order_take_their_rows_by_name(data: Path, tmp_path: Path) -> None:
    first, _ = train(data, tmp_path / "first")
    describe(data, labels={"0": "background", "1": "dark", "2": "bright"})
    values = {"learning_rate": 1e-12, "ema": 0.0, "init_from": str(tmp_path / "first" / LAST)}
    swapped, weights = train(data, tmp_path / "other", **values)
    assert weights.endswith(", its classes by name")
    for name, tensor in first.weights.items():
        rows = tensor[[0, 2, 1]] if name.startswith("classifier.") else tensor
        assert torch.allclose(swapped.model[name], rows), name


def test_initial_weights_that_are_not_finite_are_named(data: Path, tmp_path: Path) -> None:
    first, _ = train(data, tmp_path / "first")
    broken = {name: tensor.clone() for name, tensor in first.weights.items()}
    broken["classifier.weight"][0] = torch.nan
    save(tmp_path / "broken.safetensors", replace(first, model=broken, average={}))
    torch.save(broken, tmp_path / "broken.pth")
    for name in ("broken.safetensors", "broken.pth"):
        with pytest.raises(CheckpointError, match=rf"{name}: expected finite weights, found NaN .* classifier\.weight"):
            train(data, tmp_path / f"from-{name}", init_from=str(tmp_path / name))
