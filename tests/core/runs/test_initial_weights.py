"""The network that initial weights belong to: of a file, of another program's file, of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.checkpointing.checkpoint import save
from core.errors import CheckpointError, RunError
from core.runs.initial_weights import initial_checkpoint, initial_network
from tests.support.checkpoint_files import trained


def test_the_network_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    save(source, trained())
    assert initial_checkpoint(tmp_path, str(source)) == str(source)
    assert initial_network(tmp_path, str(source)) == trained().metadata.train_config.model


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
