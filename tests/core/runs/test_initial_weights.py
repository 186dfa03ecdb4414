"""The network that initial weights belong to: of a file, of another program's file, of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.checkpointing.ensemble import save_ensemble
from core.errors import CheckpointError, ConfigError, RunError
from core.runs.initial_weights import initial_checkpoint, initial_network
from tests.support.checkpoint_files import trained, write_checkpoint
from tests.support.ensemble_members import two_members


def test_the_network_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source.safetensors", model="UNET3D")
    assert initial_checkpoint(tmp_path, source) == source
    assert initial_network(tmp_path, source) == trained().metadata.train_config.model, "with the name that is no alias"


def test_none_without_initial_weights_and_for_those_of_another_program(tmp_path: Path) -> None:
    other = tmp_path / "weights.pth"
    torch.save({"kernel": torch.zeros(1)}, other)
    assert initial_network(tmp_path, "") is None and initial_checkpoint(tmp_path, "") == ""
    assert initial_network(tmp_path, str(other)) is None


def test_errors_name_the_field(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="init_from: expected a checkpoint file or a run"):
        initial_network(tmp_path, "nobody")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
        initial_network(tmp_path, str(damaged))
    lost = write_checkpoint(tmp_path / "lost.safetensors", model="Lost", channels=())
    with pytest.raises(ConfigError, match=r"init_from: .*lost\.safetensors: model: expected one of .* got 'Lost'"):
        initial_network(tmp_path, lost)


def test_an_ensemble_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "both.safetensors"
    save_ensemble(path, two_members(tmp_path))
    with pytest.raises(CheckpointError, match=r"expected one network, found an ensemble"):
        initial_network(tmp_path, str(path))
